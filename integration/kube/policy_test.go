package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestNetworkPolicy: kube-network-policies, run as the chart's manifest runs it, judges
// what onlink's pods send and receive, with real packets: in both families, on one
// node, in one rack, and through the tunnel between two.
func TestNetworkPolicy(t *testing.T) {
	b := newPolicyBed(t)
	probes := b.probes()
	for _, s := range []struct {
		name string
		run  func(*testing.T, *policyBed, []probe)
	}{
		{"nothing enforces", nothingEnforces},
		{"rights", hasRights},
		{"cases", policyCases},
		{"labels", followsLabels},
		{"established", keepsEstablished},
	} {
		ok := t.Run(s.name, func(t *testing.T) {
			began := time.Now()
			s.run(t, b, probes)
			t.Logf("%s", time.Since(began).Round(time.Second))
		})
		if !ok {
			return // what follows stands on it
		}
	}
}

// probe is one question: does a new connection from a client get an answer?
type probe struct {
	role, place string  // who asks, and where
	target      string  // of whom: the pod web, the client's own node, its ToR
	port        string  // PROTOCOL/PORT, or icmp
	from        *lab.NS // where the client is
	to          netip.Addr
}

// The targets of probes.
const (
	web     = "web"
	ownNode = "own node"
	ownToR  = "ToR"
)

func (p probe) String() string {
	return fmt.Sprintf("%s %s to %s %s over %s", p.role, p.place, p.target, p.port, labtest.Family(p.to.Is6()))
}

// probes are all questions: of every client, and of each node itself, to the pod web on
// each port, and to what is no pod on one.
func (b *policyBed) probes() (all []probe) {
	for place, node := range nodeOf {
		n := b.lab.Node(node)
		tor := b.lab.Racks[n.Rack-1].ToRs[0]
		for _, is6 := range []bool{false, true} {
			add := func(role, target, port string, from *lab.NS, v4, v6 netip.Addr) {
				to := v4
				if is6 {
					to = v6
				}
				all = append(all, probe{role, place, target, port, from, to})
			}
			for _, port := range []string{"tcp/80", "tcp/81", "udp/53", "udp/54", "icmp"} {
				v4, v6 := labtest.AddrOf(b.web, false), labtest.AddrOf(b.web, true)
				for role, at := range b.pods {
					add(role, web, port, at[place].NS, v4, v6)
				}
				add(host, web, port, n.NS, v4, v6)
			}
			for role, at := range b.pods {
				add(role, ownNode, "tcp/80", at[place].NS, n.Addr, n.Addr6)
				add(role, ownToR, "tcp/80", at[place].NS, tor.Addr, tor.Addr6)
			}
		}
	}
	return all
}

// How long a probe waits: for an answer that it must get, and for one that must not
// come. A shorter wait for the latter hides nothing: the enforcers count what they drop.
const (
	answerWait  = 12 * time.Second
	silenceWait = 3 * time.Second
)

// errSilent says that no answer came.
var errSilent = errors.New("no answer")

// lastPort is the local port of the latest probe. Each has one of its own: a reused one
// could be part of a connection that the kernel still knows.
var lastPort atomic.Int32

// ask sends the question until it is answered, or the time is over: [errSilent].
func (p probe) ask(ctx context.Context, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if p.port == "icmp" {
		for {
			_, err := p.from.Ping(ctx, p.to, 1, time.Second)
			if !errors.Is(err, lab.ErrNoAnswer) && ctx.Err() == nil {
				return err
			}
			if ctx.Err() != nil {
				return errSilent
			}
		}
	}
	c, err := p.dial(ctx)
	if err == nil {
		defer c.Close()
		err = echoes(ctx, c)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return errSilent
	}
	return err
}

// dial opens a connection from the client's namespace.
func (p probe) dial(ctx context.Context) (c net.Conn, err error) {
	network, port, _ := strings.Cut(p.port, "/")
	local := int(20_000 + lastPort.Add(1))
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{Port: local}}
	if network == "tcp" {
		dialer.LocalAddr = &net.TCPAddr{Port: local}
		dialer.SetMultipathTCP(false)
	}
	err = p.from.Do(func() error {
		c, err = dialer.DialContext(ctx, network, net.JoinHostPort(p.to.String(), port))
		return err
	})
	return c, err
}

// echoes sends a byte until it comes back.
func echoes(ctx context.Context, c net.Conn) error {
	end, _ := ctx.Deadline()
	_, isTCP := c.(*net.TCPConn)
	for buf := []byte{1}; ; {
		if _, err := c.Write(buf); err != nil {
			return err
		}
		late := time.Now().Add(time.Second) // the next datagram; TCP repeats by itself
		if isTCP || late.After(end) {
			late = end
		}
		if err := c.SetReadDeadline(late); err != nil {
			return err
		}
		_, err := c.Read(buf)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !time.Now().Before(end) {
			return err
		}
	}
}

// round asks all questions at once and compares the answers with the verdicts: an
// answer where a probe is allowed, silence where it is not. It returns how many were
// denied.
func round(ctx context.Context, probes []probe, allowed func(probe) bool) (denied int, err error) {
	faults := make([]error, len(probes))
	var wg sync.WaitGroup
	for i, p := range probes {
		wait := answerWait
		if !allowed(p) {
			denied++
			wait = silenceWait
		}
		wg.Go(func() {
			err := p.ask(ctx, wait)
			switch {
			case allowed(p) && err != nil:
				faults[i] = fmt.Errorf("%s: %w, want an answer", p, err)
			case !allowed(p) && err == nil:
				faults[i] = fmt.Errorf("%s: an answer, want none", p)
			case !allowed(p) && !errors.Is(err, errSilent):
				faults[i] = fmt.Errorf("%s: %w, want %w", p, err, errSilent)
			}
		})
	}
	wg.Wait()
	var text []string
	for _, err := range faults {
		if err != nil {
			text = append(text, err.Error())
		}
	}
	if len(text) > 0 {
		return denied, fmt.Errorf("%d of %d probes are wrong:\n  %s", len(text), len(probes), strings.Join(text[:min(len(text), 12)], "\n  "))
	}
	return denied, nil
}

// judged waits until all verdicts are these, and requires that they stay for another
// round, in which the enforcers drop at least a packet of each denied probe, and nothing
// where none is denied.
func (b *policyBed) judged(t *testing.T, probes []probe, allowed func(probe) bool) {
	t.Helper()
	ctx := t.Context()
	must(t, lab.Eventually(ctx, policyTime, "verdicts", func() error {
		_, err := round(ctx, probes, allowed)
		return err
	}))
	before, err := b.drops(ctx)
	must(t, err)
	denied, err := round(ctx, probes, allowed)
	must(t, err)
	after, err := b.drops(ctx)
	must(t, err)
	if dropped := after - before; dropped < denied || denied == 0 && dropped > 0 {
		t.Errorf("%d of %d probes were denied, and kube-network-policies dropped %d packets", denied, len(probes), dropped)
	} else {
		t.Logf("%d probes: %d answered, %d denied (%d packets dropped)", len(probes), len(probes)-denied, denied, dropped)
	}
}

// all is the verdict without a policy.
func all(probe) bool { return true }

// Policies that several parts use.
const (
	denyWeb = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
`
	friendsToWeb = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friends, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {role: friend}}}]}]
`
)

// fromOwnNode reports whether a process of the server's node itself asks: a policy does
// not judge it, so that kubelet's probes succeed.
func fromOwnNode(p probe) bool { return p.role == host && p.place == onNode }

// onlyFriends is the verdict of [friendsToWeb].
func onlyFriends(p probe) bool { return p.target != web || p.role == "friend" || fromOwnNode(p) }

// onlyOwnNode is the verdict of [denyWeb].
func onlyOwnNode(p probe) bool { return p.target != web || fromOwnNode(p) }

// nothingEnforces: without kube-network-policies a policy has no effect, and the probe
// of readiness fails. Then the programs start.
func nothingEnforces(t *testing.T, b *policyBed, probes []probe) {
	ctx := t.Context()
	b.replace(t, denyWeb)
	tap, err := b.lab.Tap()
	must(t, err)
	must(t, lab.Eventually(ctx, policyTime, "all is answered", func() error {
		_, err := round(ctx, probes, all)
		return err
	}))
	seen, err := tap.Stop()
	must(t, err)
	for _, s := range seen {
		if s.Node == nodeOf[otherRack] {
			t.Logf("wire of %s: %d packets between pods in the tunnel, %d outside of it", s.Node, s.TunnelCross, s.PlainCross)
			if s.TunnelCross == 0 || s.PlainCross > 0 {
				t.Errorf("wire of %s: %+v, want packets in the tunnel alone", s.Node, s)
			}
		}
	}
	for _, e := range b.enforcers {
		if err := e.ready(ctx); err == nil {
			t.Errorf("%s is ready without the program", e.Name)
		}
		began := time.Now()
		e.start(t)
		t.Logf("kube-network-policies on %s is ready after %s", e.Name, time.Since(began).Round(time.Second))
	}
	b.judged(t, probes, onlyOwnNode)
}

// hasRights: the programs have the capabilities of the manifest and no others, and their
// token reads what it must and nothing else.
func hasRights(t *testing.T, b *policyBed, _ []probe) {
	for _, e := range b.enforcers {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.process.Pid()))
		must(t, err)
		for line := range strings.Lines(string(text)) {
			const netAdmin = "0000000000001000"
			if name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t"); strings.HasPrefix(name, "Cap") && name != "CapInh" && name != "CapAmb" && value != netAdmin {
				t.Errorf("%s: %s is %s, want %s", e.Name, name, value, netAdmin)
			}
		}
	}
	ctx, set := t.Context(), b.enforcers[0].withToken(t)
	_, err := set.CoreV1().Pods("").List(ctx, metav1.ListOptions{Limit: 1})
	must(t, err)
	_, err = set.CoreV1().Secrets("").List(ctx, metav1.ListOptions{Limit: 1})
	if !denied(err) {
		t.Errorf("the token lists Secrets: %v", err)
	}
	if err := set.CoreV1().Pods("shop").DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); !denied(err) {
		t.Errorf("the token deletes Pods: %v", err)
	}
	if err := set.NetworkingV1().NetworkPolicies("shop").Delete(ctx, "deny", metav1.DeleteOptions{}); !denied(err) {
		t.Errorf("the token deletes NetworkPolicies: %v", err)
	}
}

// policyCases are sets of policies and their verdicts, one after the other.
func policyCases(t *testing.T, b *policyBed, probes []probe) {
	for _, tt := range b.cases() {
		t.Run(tt.name, func(t *testing.T) {
			b.replace(t, tt.policies)
			b.judged(t, probes, tt.allowed)
		})
	}
}

// followsLabels: a pod that gets another label has the verdicts of that one.
func followsLabels(t *testing.T, b *policyBed, probes []probe) {
	b.replace(t, friendsToWeb)
	b.judged(t, probes, onlyFriends)
	label := func(role string) {
		t.Helper()
		_, err := b.set.CoreV1().Pods("shop").Patch(t.Context(), "guest-"+nodeOf[otherRack], types.MergePatchType,
			fmt.Appendf(nil, `{"metadata":{"labels":{"role":%q}}}`, role), metav1.PatchOptions{})
		must(t, err)
	}
	label("friend")
	b.judged(t, probes, func(p probe) bool { return onlyFriends(p) || p.role == "guest" && p.place == otherRack })
	label("guest")
	b.judged(t, probes, onlyFriends)
}

// held is an open connection.
type held struct {
	probe

	conn net.Conn
}

// hold opens a connection to the pod web from every place, in both families.
func hold(t *testing.T, probes []probe, role string) (all []held) {
	t.Helper()
	for _, p := range probes {
		if p.role != role || p.target != web || p.port != "tcp/80" {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), answerWait)
		c, err := p.dial(ctx)
		must(t, err)
		must(t, echoes(ctx, c))
		cancel()
		t.Cleanup(func() { _ = c.Close() })
		all = append(all, held{p, c})
	}
	return all
}

// alive returns an error unless each connection carries a byte and its answer.
func alive(ctx context.Context, all []held) (errs error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	for _, h := range all {
		if err := echoes(ctx, h.conn); err != nil {
			errs = errors.Join(errs, fmt.Errorf("%s: %w", h.probe, err))
		}
	}
	return errs
}

// dead returns an error unless no connection carries anything.
func dead(ctx context.Context, all []held) error {
	for _, h := range all {
		short, cancel := context.WithTimeout(ctx, silenceWait)
		err := echoes(short, h.conn)
		cancel()
		if err == nil {
			return fmt.Errorf("%s: its connection is alive", h.probe)
		}
	}
	return nil
}

// strictTime is more than kube-network-policies needs in its strict mode to look at the
// connections that are open when a policy changes.
const strictTime = 75 * time.Second

// keepsEstablished: a connection goes on as long as it is allowed. What becomes of one
// that a later policy denies is kube-network-policies' own matter, and logged.
func keepsEstablished(t *testing.T, b *policyBed, probes []probe) {
	ctx := t.Context()
	b.replace(t, "")
	b.judged(t, probes, all)
	friends, guests := hold(t, probes, "friend"), hold(t, probes, "guest")
	b.replace(t, friendsToWeb)
	b.judged(t, probes, onlyFriends)
	must(t, alive(ctx, friends))
	began := time.Now()
	err := lab.Eventually(ctx, strictTime, "the connections of guests end", func() error { return dead(ctx, guests) })
	t.Logf("open connections that the policy denies, after %s: %v", time.Since(began).Round(time.Second), err)
	b.judged(t, probes, onlyFriends)
	must(t, alive(ctx, friends))
}
