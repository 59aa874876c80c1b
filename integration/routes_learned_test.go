package integration

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// learned is what a ToR announces in one family.
type learned struct {
	wide, subnet, peer, other, service, all netip.Prefix
	tor, core                               func(*lab.ToR) netip.Addr
}

// TestLearned: prefixes outside every pool, from a ToR and from another node,
// in both families. They follow their gateway, and never take away a peer or
// the node's network.
func TestLearned(t *testing.T) {
	ctx, l := labtest.Build(t, lab.Spec{Name: "learned", DualStack: true, ToRsPerRack: 2, NodesPerRack: 1, Pool: lab.Pool{CIDR6: labtest.Pool6, Tunnel: "vxlan"}})
	n, rr, tors := l.Node("r1n1"), l.Reflectors()[0], l.Racks[0].ToRs
	families := []learned{{
		wide: netip.MustParsePrefix("10.0.0.0/8"), subnet: netip.MustParsePrefix("10.57.1.0/25"), peer: netip.PrefixFrom(rr.Addr, 32),
		other: netip.MustParsePrefix("10.57.2.0/25"), service: netip.MustParsePrefix("192.0.2.0/24"), all: defaults[0],
		tor: func(t *lab.ToR) netip.Addr { return t.Addr }, core: func(t *lab.ToR) netip.Addr { return t.Core },
	}, {
		wide: netip.MustParsePrefix("fd00::/8"), subnet: netip.MustParsePrefix("fd57:1::/80"), peer: netip.PrefixFrom(rr.Addr6, 128),
		other: netip.MustParsePrefix("fd57:2::/80"), service: netip.MustParsePrefix("2001:db8:1::/48"), all: defaults[1],
		tor: func(t *lab.ToR) netip.Addr { return t.Addr6 }, core: func(t *lab.ToR) netip.Addr { return t.Core6 },
	}}
	var accept []conf.Rule
	tors[0].Through = map[netip.Prefix]netip.Addr{}
	for _, f := range families {
		tors[0].Announce = append(tors[0].Announce, f.wide, f.subnet, f.peer, f.other, f.all)
		tors[0].Through[f.service] = f.core(l.Racks[1].ToRs[0])
		accept = append(accept, conf.Rules(f.wide, f.service)...)
		accept = append(accept, conf.Rule{Prefix: f.all.String(), GE: new(0), LE: new(0)})
	}
	n.Edit = func(c *conf.Config) {
		c.FIB.Metric = 50 // beside the operator's default route
		for _, p := range c.BGP.Peers {
			if p.Name != rr.Name {
				p.Import = conf.Import{Accept: accept, DisableConnectedCheck: true} // service leads to the other rack's ToR
			}
		}
	}
	labtest.StartWithPods(ctx, t, l)
	for i, f := range families {
		t.Run(labtest.Family(i == 1), func(t *testing.T) { checkLearned(ctx, t, l, f) })
	}
	t.Run("the main job goes on", func(t *testing.T) {
		must(t, l.WaitConverged(ctx))
		labtest.Reaches(ctx, t, labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r2n1"), false)
		labtest.Reaches(ctx, t, labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r2n1"), true)
		labtest.CheckRoutes(ctx, t, l)
	})
	t.Run("goes with the ToR", func(t *testing.T) {
		must(t, tors[0].Stop())
		for _, f := range families {
			must(t, lab.Eventually(ctx, labtest.Patience, "the ToR's prefixes go", func() error {
				if labtest.HasRoute(n, f.wide, labtest.RouteProtocol) == nil {
					return fmt.Errorf("%s is still there", f.wide)
				}
				return nil
			}))
		}
	})
}

// checkLearned looks at r1n1's decisions for one family.
func checkLearned(ctx context.Context, t *testing.T, l *lab.Lab, f learned) {
	n, tors := l.Node("r1n1"), l.Racks[0].ToRs
	for _, c := range []struct {
		prefix    netip.Prefix
		installed bool
		reason    string
		via       netip.Addr
	}{
		{f.wide, true, "on-link", f.tor(tors[0])},
		{f.all, true, "on-link", f.tor(tors[0])},
		{f.other, true, "on-link", f.tor(tors[0])}, // the underlay's own word on the other rack
		{f.subnet, false, "not-permitted", netip.Addr{}},
		{f.peer, false, "not-permitted", netip.Addr{}},
	} {
		t.Run(c.prefix.String(), func(t *testing.T) { labtest.WantDecision(ctx, t, n, c.prefix, c.installed, c.reason, c.via) })
	}
	t.Run("follows its gateway", func(t *testing.T) {
		for _, tor := range []*lab.ToR{tors[1], tors[0]} {
			if f.all.Addr().Is6() { // a replacement would leave one gateway of a multipath route
				must(t, n.NS.RemoveRoute(f.all))
			}
			must(t, n.NS.SetRoute(f.all, lab.Gateway{Via: f.tor(tor)}))
			labtest.WantDecision(ctx, t, n, f.service, true, "outside-pools", f.tor(tor))
		}
	})
}
