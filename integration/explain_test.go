package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/internal/identity"
	onlinkv1 "onlink/proto/v1"
	"onlink/tunnel"
)

// explained is one lab for many breakages of its paths: a pod on each node, from
// r1n1 to r1n2 a plain route, to r2n1 a VXLAN tunnel, and both families.
type explained struct {
	*testing.T

	ctx   context.Context
	lab   *lab.Lab
	names *strings.Replacer // of addresses and devices in commands

	unheard bool // the registry never answered r1n1
}

// node is a node's namespace, or that of its pod, of a switch or of a ToR.
func (e *explained) node(name string) *lab.NS {
	switch kind, rest, _ := strings.Cut(name, " "); kind {
	case "pod":
		return labtest.PodOf(e.lab, rest).NS
	case "switch":
		return e.lab.Racks[0].Switch
	case "tor":
		return e.lab.ToRs()[0].NS
	}
	return e.lab.Node(name).NS
}

// run runs commands, one a line, in a namespace: "WHERE: COMMAND". TABLE is named
// after the address that they concern.
func (e *explained) run(to, commands string) error {
	var errs []error
	commands = strings.ReplaceAll(commands, "TABLE", "op-"+strings.ToLower(to))
	for line := range strings.Lines(commands) {
		where, command, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if command == "" {
			continue
		}
		w := strings.Fields(e.names.Replace(command))
		if w[0] == "agent" {
			errs = append(errs, e.agent(e.lab.Node(where), w[1]))
			continue
		}
		if w[0] == "onlinkctl" {
			out, err := e.lab.Node(where).Ctl(e.ctx, w[1:]...)
			if err == nil && out.Code != 0 {
				err = fmt.Errorf("%s: %s", line, out.Stderr)
			}
			errs = append(errs, err)
			continue
		}
		errs = append(errs, e.node(where).Do(func() error {
			if text, err := exec.CommandContext(e.ctx, w[0], w[1:]...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", line, err, text)
			}
			return nil
		}))
	}
	return errors.Join(errs...)
}

// agent kills the agent of a node, or starts it.
func (e *explained) agent(n *lab.Node, action string) error {
	if action == "kill" {
		return n.Kill()
	}
	return errors.Join(n.Start(e.ctx), n.WaitReady(e.ctx))
}

// answerTime is the promised time of an answer.
const answerTime = 5 * time.Second

// explain asks a node. An answer after its time fails the test, also where the next one
// would be in time.
func (e *explained) explain(node, from, to string) (*onlinkv1.ExplainReply, error) {
	admin, err := e.lab.Node(node).Admin()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	r, err := admin.Explain(e.ctx, &onlinkv1.ExplainRequest{Address: e.names.Replace(to), From: e.names.Replace(from)})
	if took := time.Since(begin); err == nil && took > answerTime {
		e.Errorf("%s explains %s after %v, want within %v: %s", node, e.names.Replace(to), took, answerTime, r.GetVerdict())
	}
	return r, err
}

// says requires a cause, which the node itself finds, or another one: "CAUSE at NODE";
// "": the path is whole.
func (e *explained) says(node, from, to, cause string) error {
	cause, at, _ := strings.Cut(cause, " at ")
	r, err := e.explain(node, from, to)
	if err != nil {
		return err
	}
	if r.GetCause() != cause || r.GetNode() != at || r.GetReachable() != (cause == "") || cause != "" && r.GetFix() == "" {
		var steps []string
		for _, s := range r.GetSteps() {
			steps = append(steps, fmt.Sprintf("%s %s %s: %s", s.GetName(), s.GetState(), s.GetCause(), s.GetDetail()))
		}
		return fmt.Errorf("%s explains %s: cause %q at %q, want %q at %q; %s\n%s", node, e.names.Replace(to), r.GetCause(), r.GetNode(), cause, at, r.GetVerdict(), strings.Join(steps, "\n"))
	}
	return nil
}

// TestExplain breaks one thing after the other and requires the cause that explain
// names; and without a breakage, or with one that stops no packet, that no path is
// called broken. The answers are the same while the registry's host is silent, and for
// an agent that it never answered, but for an address that no node has.
func TestExplain(t *testing.T) {
	half := len(breakages) / 2
	first, second := breakages[:half], breakages[half:]
	var all sync.WaitGroup
	for _, l := range []struct {
		name string
		try  func(*testing.T, *explained)
	}{
		{"whole", func(t *testing.T, e *explained) {
			e.tryWhole(t)
			e.tryAll(t, first)
		}},
		{"harmless", func(t *testing.T, e *explained) {
			e.tryHarmless(t)
			e.tryAll(t, second)
		}},
		{"silent", func(t *testing.T, e *explained) {
			e.silence(t)
			e.tryAll(t, second)
		}},
		{"unheard", func(t *testing.T, e *explained) {
			e.silence(t)
			// From here on r1n1 knows no owner but itself.
			must(t, e.run("", "r1n1: agent kill\nr1n1: agent start"))
			e.unheard = true
			e.tryWhole(t)
			e.tryAll(t, first)
		}},
	} {
		// The labs mostly wait; t.Parallel would run no more of them than there are CPUs.
		all.Go(func() {
			t.Run(l.name, func(t *testing.T) { l.try(t, newExplained(t, l.name, "vxlan")) })
		})
	}
	all.Wait()
}

// silence has the registry's host drop all packets. The reflector knows the owners of
// blocks from its start, so it starts again before, and nobody hears more.
func (e *explained) silence(t *testing.T) {
	t.Helper()
	must(t, e.run("", "rr1: agent kill\nrr1: agent start"))
	must(t, e.lab.WaitConverged(e.ctx))
	must(t, e.run("", rule(registryHost, "input", "drop")+"\n"+registryHost+": nft add chain inet TABLE o { type filter hook output priority 0 ; policy drop ; }"))
}

// registryHost is the node that serves the registry: no path leads through it.
const registryHost = "r2n2"

// TestExplainThroughIPIP is for kernels with the devices ipip and ip6tnl, VRFs and
// netem. User-mode Linux has no nftables: routers drop by rules and queues.
func TestExplainThroughIPIP(t *testing.T) {
	labtest.NeedIPIP(t)
	e := newExplained(t, "xipip", "ipip")
	for _, to := range []string{"NEAR", "FAR", "FAR6"} {
		must(t, lab.Eventually(e.ctx, labtest.Patience, to, func() error { return e.says("r1n1", "", to, "") }))
	}
	e.tryEach(t, breakagesOfIPIP)
}

// newExplained starts the lab, with a kind of tunnel.
func newExplained(t *testing.T, name, kind string) *explained {
	t.Helper()
	ctx, l := labtest.Build(t, lab.Spec{
		Name: name, Racks: 2, NodesPerRack: 2, DualStack: true, Pool: lab.Pool{Tunnel: kind, CIDR6: labtest.Pool6},
		Service: netip.MustParsePrefix("192.168.0.0/16"),
	})
	ca := labtest.NewAuthority(t)
	registry := netip.AddrPortFrom(l.Node(registryHost).Addr, 4790).String()
	for _, n := range l.Nodes() {
		files := ca.Issue(t, identity.Node, n.Name, n.Addr)
		n.Edit = func(c *conf.Config) {
			c.API.Admin.TCP, c.API.Admin.TLS = netip.AddrPortFrom(n.Addr, 9180).String(), files
			c.IPAM.Registry = conf.Registry{Kind: "grpc", Address: []string{registry}, Insecure: true}
			if n.Name == registryHost {
				c.IPAM.Registry = conf.Registry{Kind: "bolt", Listen: registry, Insecure: true}
			}
		}
	}
	labtest.StartWithPods(ctx, t, l)
	lost, err := l.Node("r1n2").AddPod(ctx, "lost")
	must(t, err)
	beside, err := l.Node("r1n2").AddPod(ctx, "beside")
	must(t, err)
	own, near, far := labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r1n2"), labtest.PodOf(l, "r2n1")
	block := labtest.BlockOfFamily(ctx, t, l.Node("r1n2"), false)
	n1, n2, n3, tor := l.Node("r1n1"), l.Node("r1n2"), l.Node("r2n1"), l.ToRs()[0]
	names := []string{
		"BRIDGE", "br0", "OWNBLOCK", labtest.BlockOfFamily(ctx, t, l.Node("r1n1"), false).String(), "BLOCK", block.String(), "UNUSED", lastOf(block).String(),
		"GATEWAY6", gatewayOf(ctx, t, far, true), "GATEWAY2", neighbourOf(ctx, t, near), "GATEWAY3", neighbourOf(ctx, t, far),
		"PODMAC1", macOf(t, own.NS), "PODMAC2", macOf(t, near.NS), "NODEMAC2", macOf(t, n2.NS),
		"MAC3_6", tunnel.MAC(n3.Addr6).String(), "MAC3", tunnel.MAC(n3.Addr).String(),
		"TOR", tor.Addr.String(), "ROUTER6", tor.Addr6.String(),
		"VETH_LOST", hostEndOf(ctx, t, n2, labtest.AddrOf(lost, false)), "LOST", labtest.AddrOf(lost, false).String(),
		"BESIDE", labtest.AddrOf(beside, false).String(),
		"VETH2", hostEndOf(ctx, t, n2, labtest.AddrOf(near, false)), "VETH", hostEndOf(ctx, t, n1, labtest.AddrOf(own, false)),
	}
	for name, p := range map[string]*lab.Pod{"OWN": own, "NEAR": near, "FAR": far} {
		names = append(names, name+"6", labtest.AddrOf(p, true).String(), name, labtest.AddrOf(p, false).String())
	}
	for name, n := range map[string]*lab.Node{"NODE1": n1, "NODE2": n2, "NODE3": n3} {
		names = append(names, name+"_6", n.Addr6.String(), name, n.Addr.String())
	}
	return &explained{T: t, ctx: ctx, lab: l, names: strings.NewReplacer(names...)}
}

// lastOf returns the last address of an IPv4 block, which no pod has yet.
func lastOf(block netip.Prefix) netip.Addr {
	last := block.Masked().Addr().As4()
	last[3] |= byte(1<<(32-block.Bits()) - 1)
	return netip.AddrFrom4(last)
}

// tryWhole explains paths without a breakage.
func (e *explained) tryWhole(t *testing.T) {
	t.Helper()
	for _, w := range whole {
		if err := lab.Eventually(e.ctx, labtest.Patience, w.name, func() error { return e.says(w.node, w.from, w.to, "") }); err != nil {
			t.Error(err)
		}
	}
}

// tryHarmless explains paths with what stops no packet.
func (e *explained) tryHarmless(t *testing.T) {
	t.Helper()
	for _, h := range harmless {
		t.Run(h.name, func(t *testing.T) {
			must(t, e.run(h.to, h.do))
			if err := e.says("r1n1", "", h.to, ""); err != nil {
				t.Error(err)
			}
			must(t, e.run(h.to, h.undo))
		})
	}
}

// tryAll tries breakages: those of one address one after the other, beside those of the
// other addresses; and those that break more alone.
func (e *explained) tryAll(t *testing.T, list []breakage) {
	t.Helper()
	lanes := map[string][]*breakage{}
	var alone []*breakage
	for i := range list {
		if b := &list[i]; b.alone || b.edit != nil {
			alone = append(alone, b)
		} else {
			lanes[b.to] = append(lanes[b.to], b)
		}
	}
	var all sync.WaitGroup
	for _, lane := range lanes {
		all.Go(func() { e.tryEach(t, lane) })
	}
	all.Wait()
	e.tryEach(t, alone)
}

func (e *explained) tryEach(t *testing.T, list []*breakage) {
	t.Helper()
	for _, b := range list {
		t.Run(b.name, func(t *testing.T) { e.try(t, b) })
	}
}

// try makes a breakage, requires its cause, and mends it.
func (e *explained) try(t *testing.T, b *breakage) {
	t.Helper()
	must(t, e.run(b.to, b.do))
	if b.edit != nil {
		e.edit(t, b)
	}
	must(t, e.run(b.to, b.after))
	cause := b.cause
	if e.unheard && b.unheard != "" {
		cause = b.unheard
	}
	if err := lab.Eventually(e.ctx, labtest.Back, cause, func() error {
		err := e.says("r1n1", b.from, b.to, cause)
		if err != nil && b.again {
			_ = e.run(b.to, b.do) // an error: it is broken still
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	if b.then != "" {
		if err := e.says(b.then, "", b.to, b.also); err != nil {
			t.Error(err)
		}
	}
	must(t, e.run(b.to, b.undo))
	if b.edit != nil {
		e.configure(t, b, e.lab.Node(b.at).Edit)
	}
	if b.do != "" && !b.lasting || b.edit != nil {
		must(t, lab.Eventually(e.ctx, labtest.Patience, "the path is whole again", func() error { return e.says("r1n1", b.from, b.to, "") }))
	}
}

// edit has an agent take an edited configuration, which may use the filter oops.
func (e *explained) edit(t *testing.T, b *breakage) {
	t.Helper()
	as := e.lab.Node(b.at).Edit
	reject := conf.FilterRule{Action: "reject"}
	if b.only != "" {
		reject.Match.Prefixes = conf.Rules(e.names.Replace(b.only))
	}
	e.configure(t, b, func(c *conf.Config) {
		as(c)
		c.BGP.Filters = []conf.Filter{{Name: "oops", Rules: []conf.FilterRule{reject}}}
		b.edit(c)
	})
}

// configure has the agent of a breakage take a configuration.
func (e *explained) configure(t *testing.T, b *breakage, edit func(*conf.Config)) {
	t.Helper()
	n := e.lab.Node(b.at)
	as := n.Edit
	n.Edit = edit
	if b.restart {
		must(t, errors.Join(e.agent(n, "kill"), e.agent(n, "start")))
	} else {
		labtest.Reload(e.ctx, t, n, n.Edited())
	}
	n.Edit = as
}

// hostEndOf returns the host end of the veth of a node's pod.
func hostEndOf(ctx context.Context, t *testing.T, n *lab.Node, addr netip.Addr) string {
	t.Helper()
	routes, err := n.Routes(ctx)
	must(t, err)
	for _, r := range routes {
		if r.GetPrefix() == netip.PrefixFrom(addr, addr.BitLen()).String() && len(r.GetHops()) == 1 {
			return r.GetHops()[0].GetDev()
		}
	}
	t.Fatalf("%s has no route to its pod %s", n.Name, addr)
	return ""
}

// gatewayOf returns the gateway of a pod.
func gatewayOf(ctx context.Context, t *testing.T, p *lab.Pod, v6 bool) string {
	t.Helper()
	family := "-4"
	if v6 {
		family = "-6"
	}
	return wordAfter(ctx, t, p.NS, "via", "ip", family, "route", "show", "default")
}

// neighbourOf returns the MAC address of a pod's IPv4 gateway, from its permanent
// neighbour.
func neighbourOf(ctx context.Context, t *testing.T, p *lab.Pod) string {
	t.Helper()
	return wordAfter(ctx, t, p.NS, "lladdr", "ip", "neigh", "show", "169.254.1.1", "nud", "permanent")
}

// wordAfter returns the word after another one in what a command says.
func wordAfter(ctx context.Context, t *testing.T, ns *lab.NS, before string, command ...string) (word string) {
	t.Helper()
	must(t, ns.Do(func() error {
		out, err := exec.CommandContext(ctx, command[0], command[1:]...).Output()
		if w := strings.Fields(string(out)); err == nil {
			if i := slices.Index(w, before); i >= 0 && i+1 < len(w) {
				word = w[i+1]
				return nil
			}
			err = fmt.Errorf("%q: no %s in %q", command, before, out)
		}
		return err
	}))
	return word
}

// macOf returns the MAC address of eth0.
func macOf(t *testing.T, ns *lab.NS) (mac string) {
	t.Helper()
	must(t, ns.Do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err == nil {
			mac = link.HardwareAddr.String()
		}
		return err
	}))
	return mac
}
