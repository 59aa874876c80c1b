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
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/internal/identity"
	onlinkv1 "onlink/proto/v1"
)

// explained is one lab for many breakages of its paths: a pod on each node, from
// r1n1 to r1n2 a plain route, to r2n1 a VXLAN tunnel, and both families.
type explained struct {
	*testing.T

	ctx   context.Context
	lab   *lab.Lab
	names *strings.Replacer // of addresses and devices in commands
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

// run runs commands, one a line, in a namespace: "WHERE: COMMAND".
func (e *explained) run(commands string) error {
	var errs []error
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

// explain asks a node, and requires the answer within the promised time.
func (e *explained) explain(node, from, to string) (*onlinkv1.ExplainReply, error) {
	admin, err := e.lab.Node(node).Admin()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	r, err := admin.Explain(e.ctx, &onlinkv1.ExplainRequest{Address: e.names.Replace(to), From: e.names.Replace(from)})
	if took := time.Since(begin); err == nil && took > 5*time.Second {
		err = fmt.Errorf("explain took %v", took)
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

// breakage is one thing out of order on the way from r1n1 to the pod of another
// node.
type breakage struct {
	name       string
	do, undo   string // "WHERE: COMMAND", one a line
	from, to   string // addresses, as in names; from "": from any pod of r1n1
	cause      string // as r1n1 explains it, and " at " the node that finds it
	then, also string // where the operator asks next, and the cause there
	again      bool   // the agent repairs it within seconds: it is broken again for each try
	at         string // node whose configuration is edited
	edit       func(*conf.Config)
}

const (
	chain = "nft add table inet op\nHERE: nft add chain inet op c { type filter hook HOOK priority 0 ; }\nHERE: nft add rule inet op c RULE"
	clean = "nft delete table inet op"
)

// rule is a rule in a chain of its own in a namespace.
func rule(where, hook, text string) string {
	return where + ": " + strings.NewReplacer("HERE", where, "HOOK", hook, "RULE", text).Replace(chain)
}

var breakages = []breakage{
	{name: "a blackhole for one address", do: "r1n1: ip route add blackhole NEAR/32", undo: "r1n1: ip route del blackhole NEAR/32", to: "NEAR", cause: "route.foreign"},
	{name: "an IPv6 prohibit route", do: "r1n1: ip -6 route add prohibit NEAR6/128", undo: "r1n1: ip -6 route del prohibit NEAR6/128", to: "NEAR6", cause: "route.foreign"},
	{name: "an unreachable route over the tunnel's", do: "r1n1: ip route add unreachable FAR/32", undo: "r1n1: ip route del unreachable FAR/32", to: "FAR", cause: "route.foreign"},
	{
		name: "a policy rule for pods", do: "r1n1: ip route add blackhole default table 100\nr1n1: ip rule add from 10.244.0.0/16 lookup 100 pref 1000",
		undo: "r1n1: ip rule del pref 1000\nr1n1: ip route flush table 100", to: "NEAR", cause: "route.policy",
	},
	{name: "an IPv6 rule that drops", do: "r1n1: ip -6 rule add to NEAR6 prohibit pref 1000", undo: "r1n1: ip -6 rule del pref 1000", to: "NEAR6", cause: "route.policy"},
	{
		name: "a permanent neighbour with another MAC address", do: "r1n1: ip neigh replace NODE2 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
		undo: "r1n1: ip neigh del NODE2 dev eth0", to: "NEAR", cause: "neighbour.wrong-mac",
	},
	{
		name: "an IPv6 neighbour with another MAC address", do: "r1n1: ip -6 neigh replace NODE2_6 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
		undo: "r1n1: ip -6 neigh del NODE2_6 dev eth0", to: "NEAR6", cause: "neighbour.wrong-mac",
	},
	{name: "the pod's device does not forward", do: "r1n1: sysctl -qw net.ipv4.conf.VETH.forwarding=0", undo: "r1n1: sysctl -qw net.ipv4.conf.VETH.forwarding=1", from: "OWN", to: "NEAR", cause: "host.forwarding"},
	{name: "the pod's address is also one of the node", do: "r1n1: ip addr add OWN/32 dev lo", undo: "r1n1: ip addr del OWN/32 dev lo", from: "OWN", to: "NEAR", cause: "host.accept-local"},
	{name: "loopback without route_localnet", from: "127.0.0.1", to: "OWN", cause: "host.route-localnet"},
	{name: "a chain that drops", do: rule("r1n1", "forward", "ip saddr 10.244.0.0/16 drop"), undo: "r1n1: " + clean, to: "NEAR", cause: "host.chain"},
	{name: "a chain that drops before routing", do: rule("r1n1", "prerouting", "ip6 saddr fd44::/48 drop"), undo: "r1n1: " + clean, to: "FAR6", cause: "host.chain"},
	{
		name: "a chain that rewrites the source", do: "r1n1: nft add table ip op\nr1n1: nft add chain ip op c { type nat hook postrouting priority 50 ; }\nr1n1: nft add rule ip op c oifname onlink-vxlan snat to 192.0.2.1",
		undo: "r1n1: nft delete table ip op", to: "FAR", cause: "host.rewrite",
	},
	{name: "a silent drop here", do: rule("r1n1", "forward", "oifname eth0 meta length > 0 drop"), undo: "r1n1: " + clean, to: "NEAR", cause: "probe.here"},
	{name: "a silent drop of answers here", do: rule("r1n1", "forward", "iifname onlink-vxlan meta length > 0 drop"), undo: "r1n1: " + clean, to: "FAR", cause: "probe.here"},
	{name: "an entry of the tunnel is gone", do: "r1n1: bridge fdb flush dev onlink-vxlan", to: "FAR", cause: "tunnel.entries", again: true},
	{name: "the router drops the tunnel", do: rule("tor", "forward", "udp dport 4789 drop"), undo: "tor: " + clean, to: "FAR", cause: "tunnel.silent"},
	{name: "the router drops large packets", do: rule("tor", "forward", "meta length > 1400 drop"), undo: "tor: " + clean, to: "FAR", cause: "probe.mtu"},
	{name: "the switch drops addresses of pods", do: "switch: nft add table bridge op\nswitch: nft add chain bridge op c { type filter hook forward priority 0 ; }\nswitch: nft add rule bridge op c ip saddr 10.244.0.0/16 drop", undo: "switch: nft delete table bridge op", to: "NEAR", cause: "probe.wire"},
	{name: "a chain that drops on the far node", do: rule("r1n2", "forward", "ip daddr NEAR drop"), undo: "r1n2: " + clean, to: "NEAR", cause: "host.chain at r1n2", then: "r1n2", also: "host.chain"},
	{name: "a chain that drops behind the tunnel", do: rule("r2n1", "forward", "ip daddr FAR drop"), undo: "r2n1: " + clean, to: "FAR", cause: "host.chain at r2n1"},
	{
		name: "the pod has no default route", do: "pod r1n2: ip route del default", undo: "pod r1n2: ip route add default via 169.254.1.1 dev eth0",
		to: "NEAR", cause: "pod.wiring at r1n2", then: "r1n2", also: "pod.wiring",
	},
	{
		// With its last IPv4 address a device loses its IPv4 routes and neighbours.
		name: "the pod has lost its address", do: "pod r2n1: ip addr del FAR/32 dev eth0",
		undo: "pod r2n1: ip addr add FAR/32 dev eth0\npod r2n1: ip neigh replace 169.254.1.1 lladdr GATEWAY dev eth0 nud permanent\npod r2n1: ip route add 169.254.1.1 dev eth0\npod r2n1: ip route add default via 169.254.1.1 dev eth0",
		to:   "FAR", cause: "pod.wiring at r2n1",
	},
	{name: "the far node is drained", do: "r1n2: onlinkctl drain --wait 1s", undo: "r1n2: onlinkctl undrain", to: "NEAR", cause: "announce.drained at r1n2", then: "r1n2", also: "announce.drained"},
	{
		name: "the far node is drained, and the registry is silent", do: rule("rr1", "input", "tcp dport 4790 drop") + "\nr1n2: onlinkctl drain --wait 1s",
		undo: "rr1: " + clean + "\nr1n2: onlinkctl undrain", to: "NEAR6", cause: "announce.drained at r1n2",
	},
	{
		name: "the far agent is dead", do: "r1n2: onlinkctl drain --wait 1s\nr1n2: agent kill", undo: "r1n2: agent start\nr1n2: onlinkctl undrain",
		to: "NEAR", cause: "agent.silent",
	},
	{name: "the far node's session with the reflector is held down", do: "r1n2: onlinkctl peers rr1 disable", undo: "r1n2: onlinkctl peers rr1 enable", to: "NEAR", cause: "announce.sessions at r1n2"},
	{name: "the far node's export rejects its block", at: "r1n2", edit: func(c *conf.Config) { c.BGP.Peer("rr1").Export.Filters = []string{"oops"} }, to: "NEAR", cause: "announce.rejected at r1n2"},
	{name: "the reflector's export rejects blocks", at: "rr1", edit: func(c *conf.Config) { c.BGP.Reflector.Export.Filters = []string{"oops"} }, to: "NEAR", cause: "announce.rejected at rr1"},
	{name: "the reflector's import rejects blocks", at: "rr1", edit: func(c *conf.Config) { c.BGP.Reflector.Import.Filters = []string{"oops"} }, to: "FAR", cause: "path.rejected at rr1"},
	{name: "the far guard drops", do: "r2n1: nft delete element inet onlink nodes4 { NODE1 }", undo: "r2n1: nft add element inet onlink nodes4 { NODE1 }", to: "FAR", cause: "host.guard at r2n1", again: true},
	{name: "a free address", to: "10.244.255.250", cause: "owner.unclaimed"},
	{name: "the far node is cut off", do: "r1n2: ip link set eth0 down", undo: "r1n2: ip link set eth0 up", to: "NEAR", cause: "neighbour.silent"},
}

// TestExplain breaks one thing after the other and requires the cause that explain
// names, within its time; and without a breakage, or with one that stops no packet,
// that no path is called broken.
func TestExplain(t *testing.T) {
	ctx, l := labtest.Build(t, lab.Spec{
		Name: "explain", Racks: 2, NodesPerRack: 2, DualStack: true, Pool: lab.Pool{Tunnel: "vxlan", CIDR6: labtest.Pool6},
	})
	ca := labtest.NewAuthority(t)
	for _, n := range l.Nodes() {
		files := ca.Issue(t, identity.Node, n.Name, n.Addr)
		n.Edit = func(c *conf.Config) {
			c.API.Admin.TCP, c.API.Admin.TLS = netip.AddrPortFrom(n.Addr, 9180).String(), files
		}
	}
	labtest.StartWithPods(ctx, t, l)
	own, near, far := labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r1n2"), labtest.PodOf(l, "r2n1")
	e := &explained{T: t, ctx: ctx, lab: l, names: strings.NewReplacer(
		"NEAR6", labtest.AddrOf(near, true).String(), "NEAR", labtest.AddrOf(near, false).String(),
		"FAR6", labtest.AddrOf(far, true).String(), "FAR", labtest.AddrOf(far, false).String(),
		"OWN6", labtest.AddrOf(own, true).String(), "OWN", labtest.AddrOf(own, false).String(),
		"NODE2_6", l.Node("r1n2").Addr6.String(), "NODE2", l.Node("r1n2").Addr.String(), "NODE1", l.Node("r1n1").Addr.String(),
		"GATEWAY", gatewayOf(ctx, t, far),
		"TOR", l.ToRs()[0].Addr.String(), "VETH", hostEndOf(ctx, t, l.Node("r1n1"), labtest.AddrOf(own, false)),
	)}
	whole := []struct{ name, node, from, to string }{
		{"near", "r1n1", "", "NEAR"},
		{"near, IPv6", "r1n1", "", "NEAR6"},
		{"through the tunnel", "r1n1", "", "FAR"},
		{"through the tunnel, IPv6", "r1n1", "", "FAR6"},
		{"own", "r1n1", "", "OWN"},
		{"own, IPv6", "r1n1", "", "OWN6"},
		{"there and back", "r1n1", "OWN", "NEAR"},
		{"there and back through the tunnel", "r1n1", "OWN6", "FAR6"},
		{"to a pod here", "r1n2", "OWN", "NEAR"},
		{"from the node", "r1n1", "NODE1", "FAR"},
		{"a router", "r1n1", "", "TOR"},
		{"a node", "r1n1", "", "NODE2"},
		{"from a node without pods", "rr1", "", "NEAR"},
	}
	for _, w := range whole {
		must(t, lab.Eventually(ctx, labtest.Patience, w.name, func() error { return e.says(w.node, w.from, w.to, "") }))
	}
	for _, h := range []struct{ name, do, undo, to string }{
		{"a pod without echoes", "pod r1n2: sysctl -qw net.ipv4.icmp_echo_ignore_all=1", "pod r1n2: sysctl -qw net.ipv4.icmp_echo_ignore_all=0", "NEAR"},
		{"a chain that lets pods through", rule("r1n1", "forward", "ip saddr 10.244.0.0/16 accept") + "\nr1n1: nft add rule inet op c ip daddr != 10.244.0.0/16 drop", "r1n1: " + clean, "NEAR"},
		{"a masquerade that leaves pods alone", "r1n1: nft add table ip op\nr1n1: nft add chain ip op c { type nat hook postrouting priority 50 ; }\nr1n1: nft add rule ip op c ip saddr 172.17.0.0/16 masquerade", "r1n1: nft delete table ip op", "FAR"},
		{"a rule for marked packets", "r1n1: ip route add blackhole default table 100\nr1n1: ip rule add fwmark 7 lookup 100 pref 1000", "r1n1: ip rule del pref 1000\nr1n1: ip route flush table 100", "NEAR"},
		{"a permanent neighbour that is right", "r1n1: ip neigh replace NODE2 lladdr " + macOf(t, l.Node("r1n2")) + " dev eth0 nud permanent", "r1n1: ip neigh del NODE2 dev eth0", "NEAR"},
		{"a strict reverse path", "r1n1: sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=1", "r1n1: sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0", "FAR"},
	} {
		t.Run(h.name, func(t *testing.T) {
			must(t, e.run(h.do))
			if err := e.says("r1n1", "", h.to, ""); err != nil {
				t.Error(err)
			}
			must(t, e.run(h.undo))
		})
	}
	for _, b := range breakages {
		t.Run(b.name, func(t *testing.T) {
			must(t, e.run(b.do))
			if b.edit != nil {
				e.edit(t, b.at, b.edit)
			}
			if err := lab.Eventually(ctx, labtest.Back, b.cause, func() error {
				err := e.says("r1n1", b.from, b.to, b.cause)
				if err != nil && b.again {
					_ = e.run(b.do) // an error: it is broken still
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
			must(t, e.run(b.undo))
			if b.edit != nil {
				labtest.Reload(ctx, t, l.Node(b.at), l.Node(b.at).Edited())
			}
			if b.do != "" || b.edit != nil {
				must(t, lab.Eventually(ctx, labtest.Patience, "the path is whole again", func() error { return e.says("r1n1", b.from, b.to, "") }))
			}
		})
	}
}

// edit reloads the agent of a node with an edited configuration, which may use the
// filter oops: it rejects all.
func (e *explained) edit(t *testing.T, node string, edit func(*conf.Config)) {
	t.Helper()
	n := e.lab.Node(node)
	c := n.Edited()
	c.BGP.Filters = []conf.Filter{{Name: "oops", Rules: []conf.FilterRule{{Action: "reject"}}}}
	edit(c)
	labtest.Reload(e.ctx, t, n, c)
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

// gatewayOf returns the MAC address of a pod's gateway, from its permanent neighbour.
func gatewayOf(ctx context.Context, t *testing.T, p *lab.Pod) (mac string) {
	t.Helper()
	must(t, p.NS.Do(func() error {
		out, err := exec.CommandContext(ctx, "ip", "neigh", "show", "169.254.1.1", "nud", "permanent").Output()
		if w := strings.Fields(string(out)); err == nil {
			if i := slices.Index(w, "lladdr"); i >= 0 && i+1 < len(w) {
				mac = w[i+1]
				return nil
			}
			err = fmt.Errorf("no permanent neighbour 169.254.1.1: %s", out)
		}
		return err
	}))
	return mac
}

// macOf returns the MAC address of a node's uplink.
func macOf(t *testing.T, n *lab.Node) (mac string) {
	t.Helper()
	must(t, n.NS.Do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err == nil {
			mac = link.HardwareAddr.String()
		}
		return err
	}))
	return mac
}
