package integration

import (
	"net/netip"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/interop"
	"onlink/integration/lab"
)

// TestLongLived: one of two ToRs is killed and does not come back. After its
// restart time its routes are the last resort: the other ToR's win, and when
// those go, the dead one's are used, until the bound that the node has set.
func TestLongLived(t *testing.T) {
	spec := watched("longlived", 1)
	spec.ToRsPerRack = 2
	ctx, l := build(t, spec)
	n := l.Node("r1n1")
	announced := netip.MustParsePrefix("198.18.9.0/24")
	var peers []*conf.Peer
	var routers []*interop.Router
	for i, tor := range l.ToRs() {
		s := setupOf(tor, n)
		s.Announce = []netip.Prefix{announced}
		if i == 0 {
			s.LongLived = 3600
		}
		routers = append(routers, startRouter(ctx, t, l, interop.BIRD, tor, s))
		peers = append(peers, tor.Peer().With(func(p *conf.Peer) {
			p.LongLivedRestart, p.Import.Accept = "20s", conf.Rules(announced)
		}))
	}
	dying, living := l.ToRs()[0].Addr, l.ToRs()[1].Addr
	wire(l, map[string]conf.BGP{n.Name: {ASN: lab.NodeASN, Peers: peers}})
	must(t, l.StartNodes(ctx))
	must(t, waitBlocks(ctx, l))
	through := func(what string, hops ...netip.Addr) {
		t.Helper()
		must(t, lab.Eventually(ctx, patience, what, func() error { return throughHops(n, announced, hops...) }))
	}
	through("both ToRs", dying, living)
	must(t, routers[0].Kill())
	through("the fresh routes alone", living)
	must(t, routers[1].Withdraw(ctx))
	through("the last resort", dying)
	wantPath(ctx, t, n, announced, "65535:6") // LLGR_STALE
	through("nothing after the bound")
}
