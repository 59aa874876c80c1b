package integration

import (
	"net/netip"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/interop"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestLongLived: one of two ToRs is killed and does not come back. After its
// restart time its routes are the last resort: the other ToR's win, and when
// those go, the dead one's are used, until the bound that the node has set.
func TestLongLived(t *testing.T) {
	t.Parallel()
	spec := labtest.Mesh("longlived", 1)
	spec.ToRsPerRack = 2
	ctx, l := labtest.Build(t, spec)
	n := l.Node("r1n1")
	announced := netip.MustParsePrefix("198.18.9.0/24")
	var peers []*conf.Peer
	var routers []*interop.Router
	for i, tor := range l.ToRs() {
		s := labtest.SetupOf(tor, n)
		s.Announce = []netip.Prefix{announced}
		if i == 0 {
			s.LongLived = 3600
		}
		routers = append(routers, labtest.StartRouter(ctx, t, l, interop.BIRD, tor, s))
		peers = append(peers, tor.Peer().With(func(p *conf.Peer) {
			p.LongLivedRestart, p.Import.Accept = "20s", conf.Rules(announced)
		}))
	}
	dying, living := l.ToRs()[0].Addr, l.ToRs()[1].Addr
	labtest.Wire(l, map[string]conf.BGP{n.Name: {ASN: lab.NodeASN, Peers: peers}})
	must(t, l.StartNodes(ctx))
	must(t, labtest.WaitBlocks(ctx, l))
	through := func(what string, hops ...netip.Addr) {
		t.Helper()
		must(t, lab.Eventually(ctx, labtest.Patience, what, func() error { return labtest.ThroughHops(n, announced, hops...) }))
	}
	through("both ToRs", dying, living)
	must(t, routers[0].Kill())
	through("the fresh routes alone", living)
	must(t, routers[1].Withdraw(ctx))
	through("the last resort", dying)
	labtest.WantPath(ctx, t, n, announced, "65535:6") // LLGR_STALE
	through("nothing after the bound")
}
