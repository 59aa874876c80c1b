package integration

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"onlink/integration/lab"
)

// TestLearned: prefixes outside every pool, from a ToR and from another node.
// They follow their gateway, and never take away a peer or the node's network.
func TestLearned(t *testing.T) {
	ctx, l := build(t, lab.Spec{Name: "learned", ToRsPerRack: 2, NodesPerRack: 1, Pool: lab.Pool{Tunnel: "vxlan"}})
	n, rr, tors := l.Node("r1n1"), l.Reflectors()[0], l.Racks[0].ToRs
	wide, subnet := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.57.1.0/25")
	peer, other := netip.PrefixFrom(rr.Addr, 32), netip.MustParsePrefix("10.57.2.0/25")
	service := netip.MustParsePrefix("192.0.2.0/24")
	tors[0].Announce = []netip.Prefix{wide, subnet, peer, other, defaults[0]}
	n.Edit = func(c lab.Config) {
		c["fib"] = map[string]any{"metric": 50} // beside the operator's default route
		for _, p := range c["bgp"].(map[string]any)["peers"].([]any) {
			accept := []any{wide.String(), service.String(), map[string]any{"prefix": "0.0.0.0/0", "ge": 0, "le": 0}}
			if p.(map[string]any)["name"] != rr.Name {
				p.(map[string]any)["import"] = map[string]any{"accept": accept}
			}
		}
	}
	tors[0].Through = map[netip.Prefix]netip.Addr{service: l.Racks[1].ToRs[0].Core}
	must(t, l.StartToRs(ctx))
	must(t, l.StartNodes(ctx))
	for _, w := range l.Workers() {
		_, err := w.AddPod(ctx, w.Name+"-pod1")
		must(t, err)
	}
	must(t, l.WaitConverged(ctx))

	for _, c := range []struct {
		prefix    netip.Prefix
		installed bool
		reason    string
		via       netip.Addr
	}{
		{wide, true, "on-link", tors[0].Addr},
		{defaults[0], true, "on-link", tors[0].Addr},
		{other, true, "on-link", tors[0].Addr}, // the underlay's own word on the other rack
		{subnet, false, "not-permitted", netip.Addr{}},
		{peer, false, "not-permitted", netip.Addr{}},
	} {
		t.Run(c.prefix.String(), func(t *testing.T) { wantDecision(ctx, t, n, c.prefix, c.installed, c.reason, c.via) })
	}
	t.Run("follows its gateway", func(t *testing.T) {
		for _, tor := range []*lab.ToR{tors[1], tors[0]} {
			must(t, n.NS.SetRoute(defaults[0], lab.Gateway{Via: tor.Addr}))
			wantDecision(ctx, t, n, service, true, "outside-pools", tor.Addr)
		}
	})
	t.Run("the main job goes on", func(t *testing.T) {
		must(t, l.WaitConverged(ctx))
		reaches(ctx, t, podOf(l, "r1n1"), podOf(l, "r2n1"), false)
		checkRoutes(ctx, t, l)
	})
	t.Run("goes with the ToR", func(t *testing.T) {
		must(t, tors[0].Stop())
		must(t, lab.Eventually(ctx, patience, "the ToR's prefixes go", func() error {
			if hasRoute(n, wide, routeProtocol) == nil {
				return fmt.Errorf("%s is still there", wide)
			}
			return nil
		}))
	})
}

// wantDecision waits until the agent decided a prefix this way.
func wantDecision(ctx context.Context, t *testing.T, n *lab.Node, p netip.Prefix, installed bool, reason string, via netip.Addr) {
	t.Helper()
	must(t, lab.Eventually(ctx, patience, "decision for "+p.String(), func() error {
		routes, err := n.Routes(ctx)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.GetPrefix() != p.String() {
				continue
			}
			way := ""
			if len(r.GetHops()) == 1 {
				way = r.GetHops()[0].GetVia()
			}
			if r.GetInstalled() == installed && r.GetReason() == reason && (!via.IsValid() || way == via.String()) {
				return nil
			}
			return fmt.Errorf("got %v", r)
		}
		return fmt.Errorf("the agent has no route to %s", p)
	}))
}
