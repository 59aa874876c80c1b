package integration

import (
	"context"
	"net/netip"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/integration/uml"
)

// TestIPv4OverIPv6: a ToR announces IPv4 prefixes with IPv6 next hops (RFC
// 8950). They are direct (`via inet6`) when the next hop is on-link, tunnelled
// over IPv6 when it is not, follow the underlay when the prefix is outside
// every pool; and IPv4 packets get there.
func TestIPv4OverIPv6(t *testing.T) { checkOver6(t, "vxlan", "onlink-vxlan6") }

// TestIPv4OverIP6Tunnel is the same without VXLAN, for the other test bed.
func TestIPv4OverIP6Tunnel(t *testing.T) {
	labtest.NeedIPIP(t)
	if uml.Probe("ip6tnl") != nil {
		t.Skip("needs kernel feature: ip6tnl")
	}
	checkOver6(t, "ipip", "onlink-ip6")
}

func checkOver6(t *testing.T, kind, tunnel6 string) {
	t.Helper()
	ctx, l := labtest.Build(t, lab.Spec{Name: "over6-" + kind, DualStack: true, NodesPerRack: 2, Pool: lab.Pool{CIDR6: labtest.Pool6, Tunnel: kind}})
	n, near, far, tor := l.Node("r1n1"), l.Node("r1n2"), l.Node("r2n1"), l.Racks[0].ToRs[0]
	inRack := netip.MustParsePrefix("10.244.250.0/26")
	cases := []struct {
		prefix  netip.Prefix
		nextHop netip.Addr
		owner   *lab.NS // holds the prefix's first address
		dev     string
		via     netip.Addr
		reason  string
	}{
		{netip.MustParsePrefix("192.0.2.0/24"), tor.Addr6, tor.NS, "eth0", tor.Addr6, "on-link"},
		{inRack, near.Addr6, near.NS, "eth0", near.Addr6, "on-link"},
		{netip.MustParsePrefix("10.244.251.0/26"), far.Addr6, far.NS, tunnel6, far.Addr6, "behind-gateway"},
		{netip.MustParsePrefix("198.51.100.0/24"), l.Racks[1].ToRs[0].Core6, tor.NS, "eth0", tor.Addr6, "outside-pools"},
	}
	tor.Over6 = map[netip.Prefix]netip.Addr{}
	for _, c := range cases {
		tor.Over6[c.prefix] = c.nextHop
		must(t, c.owner.AddAddr("lo", netip.PrefixFrom(c.prefix.Addr().Next(), 32)))
	}
	n.Edit = func(c *conf.Config) { c.BGP.Peers = append(c.BGP.Peers, tor.Peer6()) }
	labtest.StartAll(ctx, t, l)
	for _, c := range cases {
		t.Run(c.prefix.String()+" "+c.reason, func(t *testing.T) {
			labtest.WantDecision(ctx, t, n, c.prefix, true, c.reason, c.via)
			labtest.WantHop(ctx, t, n, c.prefix, lab.KernelHop{Via: c.via, Dev: c.dev})
			labtest.Answers(ctx, t, n.NS, c.prefix.Addr().Next())
		})
	}
	t.Run("off-link and on-link again", func(t *testing.T) { checkSwitchOver6(ctx, t, l, inRack, tunnel6) })
	labtest.CheckRoutes(ctx, t, l)
}

// checkSwitchOver6 gives r1n1 a host route to its neighbour's IPv6 address
// through the ToR and takes it away: an IPv4 prefix behind that address moves
// into the tunnel and back, three times, under a flow that loses nothing.
func checkSwitchOver6(ctx context.Context, t *testing.T, l *lab.Lab, prefix netip.Prefix, tunnel6 string) {
	n, near, tor := l.Node("r1n1"), l.Node("r1n2"), l.Racks[0].ToRs[0]
	dst := netip.PrefixFrom(near.Addr6, 128)
	flow, err := lab.StartPingFlow(n.NS, near.NS, prefix.Addr().Next(), 1000)
	must(t, err)
	must(t, flow.WaitFor(ctx, 200))
	for range 3 {
		must(t, n.NS.SetRoute(dst, lab.Gateway{Via: tor.Addr6}))
		labtest.WantHop(ctx, t, n, prefix, lab.KernelHop{Via: near.Addr6, Dev: tunnel6})
		must(t, flow.WaitFor(ctx, 300))
		must(t, n.NS.RemoveRoute(dst))
		labtest.WantHop(ctx, t, n, prefix, lab.KernelHop{Via: near.Addr6, Dev: "eth0"})
		must(t, flow.WaitFor(ctx, 300))
	}
	labtest.Lossless(ctx, t, flow)
}
