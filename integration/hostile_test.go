package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"onlink/bgp/hostile"
	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	onlinkv1 "onlink/proto/v1"
	"onlink/rib"
)

// arena is a running reflector that is attacked from a third node's namespace,
// by clients, and two nodes that must not notice; they are attacked too, by ToRs.
type arena struct {
	*testing.T
	ctx      context.Context
	victim   *lab.Node
	from     *lab.NS
	innocent []*lab.Node
	blocks   []netip.Prefix // of all, of both families
	before   map[string]labtest.Session
	calm     map[string]scene // what the kernels held
	pid      int
	// arrived are the routes in the victim's kernel, as of the last look.
	mu      sync.Mutex
	arrived map[netip.Prefix]bool
}

const (
	attackers = 120 // addresses 10.57.1.100 and up
	suspect   = 60  // the host number of an attacker that is a configured peer
)

func attacker(host int) netip.Addr { return netip.AddrFrom4([4]byte{10, 57, 1, byte(host)}) }

// startArena starts the victim and the innocent. The victim has one configured
// peer besides its clients: whose last error an operator reads.
func startArena(t *testing.T) *arena {
	t.Helper()
	ctx, l := labtest.Build(t, lab.Spec{
		Name: "hostile", Racks: 1, NodesPerRack: 3, DualStack: true, // the sessions carry both families
		Pool: lab.Pool{Tunnel: "vxlan", CIDR6: labtest.Pool6},
	})
	accepts := conf.Rules("10.96.0.0/16") // outside the pools, for what must arrive
	a := &arena{T: t, ctx: ctx, victim: l.Reflectors()[0], from: l.Node("r1n3").NS, innocent: []*lab.Node{l.Node("r1n1"), l.Node("r1n2")}}
	a.victim.Edit = func(c *conf.Config) {
		c.BGP.Peers = []*conf.Peer{{Name: "suspect", Address: attacker(suspect).String(), ASN: lab.NodeASN, Client: true, Passive: true}}
		c.BGP.Reflector.Import.Accept = accepts
	}
	for i, n := range a.innocent {
		n.Edit = func(c *conf.Config) {
			c.BGP.Peers[0].Import.Accept = accepts
			for _, host := range torHosts(i) {
				c.BGP.Peers = append(c.BGP.Peers, &conf.Peer{
					Name: fmt.Sprint("tor", host), Address: attacker(host).String(), ASN: strangeASN, Passive: true,
					Import: conf.Import{Accept: conf.Rules("10.0.0.0/8")},
				})
			}
		}
	}
	for _, host := range slices.Concat([]int{suspect}, hosts(), torHosts(0), torHosts(1)) {
		must(t, a.from.AddAddr("eth0", netip.PrefixFrom(attacker(host), 32)))
	}
	must(t, l.StartToRs(ctx))
	for _, n := range append([]*lab.Node{a.victim}, a.innocent...) {
		labtest.StartNode(ctx, t, n)
	}
	for _, n := range a.innocent {
		_, err := n.AddPod(ctx, n.Name+"-pod")
		must(t, err)
	}
	must(t, lab.Eventually(ctx, labtest.Patience, "the blocks are known", func() error {
		return knownBlocks(ctx, a.nodes(), map[*lab.Node]int{a.victim: 2, a.innocent[0]: 4, a.innocent[1]: 4})
	}))
	a.calm = map[string]scene{}
	for _, n := range a.nodes() {
		blocks, err := n.Blocks(ctx)
		must(t, err)
		for _, b := range blocks {
			a.blocks = append(a.blocks, netip.MustParsePrefix(b.GetCidr()))
		}
		a.calm[n.Name], err = lookAt(n, nil, nil)
		must(t, err)
	}
	a.before = a.flaps()
	a.pid = a.victim.Process().Pid()
	return a
}

// nodes are the reflector and the innocent.
func (a *arena) nodes() []*lab.Node { return append([]*lab.Node{a.victim}, a.innocent...) }

// sound wants the way to every block in the kernels of all nodes as it was,
// nothing inside a block but what was there, no martian, and the nodes in the
// tunnel guard. What else clients may announce comes and goes meanwhile.
func (a *arena) sound() error {
	for _, n := range a.nodes() {
		routes, err := n.NS.Routes(labtest.RouteProtocol)
		if err != nil {
			return err
		}
		was, now := a.calm[n.Name], map[string]bool{}
		for _, r := range routes {
			now[r.String()] = true
			inside := slices.ContainsFunc(a.blocks, func(b netip.Prefix) bool { return b.Bits() <= r.Prefix.Bits() && b.Contains(r.Prefix.Addr()) })
			if (inside || rib.Martian(r.Prefix)) && !slices.Contains(was.Routes, r.String()) {
				return fmt.Errorf("%s has the route %s", n.Name, r)
			}
		}
		for _, line := range was.Routes {
			if !now[line] && strings.Contains(line, fmt.Sprintf(" proto %d", labtest.RouteProtocol)) {
				return fmt.Errorf("%s has no route %s any more", n.Name, line)
			}
		}
		guard, err := guardOf(n.NS)
		if err != nil {
			return err
		}
		for _, known := range was.Guard {
			if !slices.Contains(guard, known) {
				return fmt.Errorf("%s lets %s in no more", n.Name, known)
			}
		}
	}
	return nil
}

// flaps are the victim's sessions to the innocent.
func (a *arena) flaps() map[string]labtest.Session {
	list := map[string]labtest.Session{}
	for _, p := range a.peers() {
		for _, n := range a.innocent {
			if p.GetAddress() == n.Addr.String() && p.GetState() == "Established" {
				list[n.Name] = labtest.Session{Since: time.Now().Add(-p.GetSince().AsDuration()), Flaps: p.GetFlaps()}
			}
		}
	}
	return list
}

func (a *arena) peers() []*onlinkv1.Peer {
	admin, err := a.victim.Admin()
	must(a.T, err)
	r, err := admin.ListPeers(a.ctx, &onlinkv1.ListPeersRequest{})
	must(a.T, err)
	return slices.DeleteFunc(r.GetPeers(), (*onlinkv1.Peer).GetGone) // shown, and forgotten by the speaker
}

// unharmed wants the same process, and the innocent with the sessions and the
// routes they had.
func (a *arena) unharmed() {
	a.Helper()
	if a.victim.Process().Exited() || a.victim.Process().Pid() != a.pid {
		a.Fatal("the agent did not survive")
	}
	must(a.T, a.sound())
	after := a.flaps()
	for name, was := range a.before {
		now, up := after[name]
		if !up || now.Flaps != was.Flaps || now.Since.Sub(was.Since).Abs() > 2*time.Second {
			a.Errorf("the session to %s was %+v, is %+v (up: %t)", name, was, now, up)
		}
	}
}

// connect makes a session from an attacker's address, up unless before is true.
// A peer in Idle accepts and closes, so it tries again.
func (a *arena) connect(s hostile.Set, local netip.Addr, before bool) (*hostile.Peer, error) {
	return a.connectTo(a.victim, s, local, before)
}

func (a *arena) connectTo(n *lab.Node, s hostile.Set, local netip.Addr, before bool) (p *hostile.Peer, err error) {
	speaker := netip.AddrPortFrom(n.Addr, 179)
	err = lab.Eventually(a.ctx, labtest.Patience, fmt.Sprintf("a session from %s", local), func() error {
		return a.from.Do(func() (err error) {
			if before {
				p, err = hostile.Connect(a.ctx, local, speaker, labtest.Patience)
			} else {
				p, err = s.Establish(a.ctx, local, speaker, labtest.Patience)
			}
			return err
		})
	})
	return p, err
}

// play runs one attack. In a session that survives a good route follows, which
// must come as far as the kernel.
func (a *arena) play(attack hostile.Attack, s hostile.Set, local netip.Addr, marker netip.Prefix) error {
	p, err := a.connect(s, local, attack.Open)
	if err != nil {
		return err
	}
	defer p.Conn.Close()
	got, survives := p.Play(attack)
	if !survives {
		if got != attack.Want {
			return fmt.Errorf("%s: ended with %q, want %q", attack.Name, got, attack.Want)
		}
		return nil
	}
	b := marker.Addr().As4()
	p.Send(2, s.UpdateBody(0, nil, append([]byte{32}, b[:]...)))
	err = lab.Eventually(a.ctx, labtest.Patience, marker.String()+" is in the kernel", func() error { return a.arrival(marker) })
	if err != nil {
		return fmt.Errorf("%s: the session did not survive: %w", attack.Name, err)
	}
	return nil
}

var errNotThere = errors.New("not there")

// arrival looks for a route in the victim's kernel, at most for all who wait.
func (a *arena) arrival(p netip.Prefix) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.arrived[p] {
		return nil
	}
	routes, err := a.victim.NS.Routes(labtest.RouteProtocol)
	if err != nil {
		return err
	}
	a.arrived = map[netip.Prefix]bool{}
	for _, r := range routes {
		a.arrived[r.Prefix] = true
	}
	if !a.arrived[p] {
		return fmt.Errorf("%s: %w", p, errNotThere)
	}
	return nil
}

// TestHostile runs the set of malformed messages and sequences (package
// hostile) against a running agent over real interfaces. What becomes of each
// route is seen in process, by TestHostileSet of bgp; here each session ends as
// the RFCs say, or goes on and its next route reaches the kernel, and nobody
// else notices.
func TestHostile(t *testing.T) {
	a := startArena(t)
	s := hostile.Set{Self: a.victim.Addr, Hop: attacker(100), AS: lab.NodeASN}
	all := s.All()
	every := labtest.Times(5, 1)
	var group errgroup.Group
	free := make(chan int, attackers)
	for _, host := range hosts() {
		free <- host
	}
	group.SetLimit(24)
	played := 0
	for i := 0; i < len(all); i += every {
		played++
		group.Go(func() error {
			host := <-free
			defer func() { free <- host }()
			marker := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 96, byte(128 + i>>8), byte(i)}), 32)
			err := a.play(all[i], s, attacker(host), marker)
			if err == nil {
				err = a.sound()
			}
			if err != nil {
				t.Errorf("%s: %v", all[i].Name, err)
			}
			return nil
		})
	}
	must(t, group.Wait())
	t.Logf("%d of %d attacks", played, len(all))
	a.unharmed()
	a.explained()
	a.flooded()
	a.unharmed()
	a.external(4 * every)
	a.unharmed()

	must(t, lab.Eventually(a.ctx, labtest.Patience, "the attackers are forgotten", func() error {
		here := slices.DeleteFunc(a.peers(), (*onlinkv1.Peer).GetGone)
		if len(here) != len(a.innocent)+1 {
			return fmt.Errorf("%d peers", len(here))
		}
		return nil
	}))
	body, err := labtest.Metrics(a.ctx, a.victim)
	must(t, err)
	if !strings.Contains(body, `onlink_bgp_faults_total{kind="panic"} 0`) {
		t.Error("a panic was contained, or is not counted")
	}
	for _, kind := range []string{"reset", "withdrawn", "discarded", "ignored"} {
		if name := fmt.Sprintf("onlink_bgp_faults_total{kind=%q} ", kind); !strings.Contains(body, name) || strings.Contains(body, name+"0\n") {
			t.Errorf("no fault of kind %s was counted", kind)
		}
	}
}

// explained wants the end of a configured peer's session said in words.
func (a *arena) explained() {
	a.Helper()
	s := hostile.Set{Self: a.victim.Addr, Hop: attacker(suspect), AS: lab.NodeASN}
	for _, c := range []struct {
		typ  byte
		body []byte
		want string
	}{
		{77, nil, "sent NOTIFICATION 1/3 message header error, bad message type: unknown message type 77"},
		{4, []byte{1}, "sent NOTIFICATION 1/2 message header error, bad message length: bad length 20 for message type 4"},
		{1, s.OpenBody(nil), "sent NOTIFICATION 5/3 finite state machine error, unexpected message in Established: message type 1 in state BGP_FSM_ESTABLISHED"},
		{2, s.UpdateBody(0, nil, []byte{33, 1, 2, 3, 4, 5}), "sent NOTIFICATION 3/10 UPDATE message error, invalid network field: malformed IPv4 prefix"},
		{2, s.UpdateBody(0, hostile.Whole(0x80, 14, 0, 1, 1, 3, 1, 2, 3, 0), nil), "sent NOTIFICATION 3/9 UPDATE message error, optional attribute error: attribute 14: next hop of 3 bytes"},
		{5, []byte{1}, "sent NOTIFICATION 7/1 ROUTE-REFRESH message error, invalid message length: bad length of a ROUTE-REFRESH"},
		{3, []byte("\x06\x02\x04bye\xff"), "received NOTIFICATION 6/2 cease, administrative shutdown: bye\ufffd"},
	} {
		p, err := a.connect(s, attacker(suspect), false)
		must(a.T, err)
		p.Send(2, append([]byte{0, 0, 0, 6}, hostile.Whole(0x80, 15, 0, 25, 70)...)) // a family of its own: ignored
		p.Send(c.typ, c.body)
		_ = p.Closing() // the operator's view is what counts
		_ = p.Conn.Close()
		must(a.T, lab.Eventually(a.ctx, labtest.Patience, "the end is explained", func() error {
			for _, p := range a.peers() {
				if p.GetName() == "suspect" && p.GetLastError() != c.want {
					return fmt.Errorf("last error %q, want %q", p.GetLastError(), c.want) //nolint:err113 // for the log
				}
			}
			return nil
		}))
	}
	i := slices.IndexFunc(a.peers(), func(p *onlinkv1.Peer) bool { return p.GetName() == "suspect" })
	if f := a.peers()[i].GetFaults(); f.GetReset_() != 6 || f.GetIgnored() != 7 || f.GetPanics() != 0 {
		a.Errorf("faults of the configured peer: %v, want 6 resets and 7 ignored", f)
	}
}

// flooded opens thousands of connections, from clients' addresses and from
// those of nobody, and wants the agent as small as before afterwards.
func (a *arena) flooded() {
	a.Helper()
	files, memory := a.size()
	var group errgroup.Group
	group.SetLimit(16)
	for i := range labtest.Times(1500, 20000) {
		group.Go(func() error {
			host := 2 + i%200 // a few are the innocent's own: those cannot be bound
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: attacker(host).AsSlice()}, Timeout: labtest.Patience}
			return a.from.Do(func() error {
				c, err := d.DialContext(a.ctx, "tcp", netip.AddrPortFrom(a.victim.Addr, 179).String())
				if err != nil {
					return nil //nolint:nilerr // not our address, or too many
				}
				if i%2 == 0 {
					_, _ = c.Write([]byte("\xff\xff\xff")) // may be refused
				}
				return c.Close()
			})
		})
	}
	must(a.T, group.Wait())
	must(a.T, lab.Eventually(a.ctx, labtest.Patience, "the agent is as it was", func() error {
		nowFiles, nowMemory := a.size()
		if nowFiles > files+100 || nowMemory > memory+100<<10 {
			return fmt.Errorf("%d open files and %d kB, %d and %d before", nowFiles, nowMemory, files, memory) //nolint:err113 // for the log
		}
		return nil
	}))
}

// size is how many files the victim has open, and its memory in kB.
func (a *arena) size() (files, memory int) {
	a.Helper()
	proc := fmt.Sprintf("/proc/%d/", a.pid)
	list, err := os.ReadDir(proc + "fd")
	must(a.T, err)
	status, err := os.ReadFile(proc + "status")
	must(a.T, err)
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	memory, err = strconv.Atoi(strings.Fields(rest)[0])
	must(a.T, err)
	return len(list), memory
}
