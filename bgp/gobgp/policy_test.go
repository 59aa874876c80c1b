package gobgp

import (
	"net/netip"
	"testing"

	"onlink/bgp/policy"
)

// TestStatementsNameTheirPeers: a statement without a neighbour set, or with an
// empty one, applies to all peers in the engine: each statement of a class must
// name a set that is defined and not empty.
func TestStatementsNameTheirPeers(t *testing.T) {
	peers := []policy.Peer{
		{Neighbor: netip.MustParsePrefix("10.0.0.1/32"), ASN: 64512},
		{Neighbor: netip.MustParsePrefix("10.0.0.3/32"), ASN: 65001, External: true, Import: policy.Import{Accept: []policy.PrefixRule{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Ge: 8, Le: 32}}}},
	}
	ranges := []policy.Peer{{Neighbor: netip.MustParsePrefix("10.9.0.0/16"), ASN: 64512}}
	plan := policy.NewPlan(&policy.Node{ASN: 64512}, peers, ranges, []policy.OwnPrefix{{Prefix: netip.MustParsePrefix("10.244.0.0/26")}})
	b := buildPolicy(plan, 1)
	members := map[string]int{}
	for _, set := range b.sets {
		members[set.GetName()] = len(set.GetList())
	}
	named := 0
	for i, st := range append(b.imports, b.exports...) {
		set := st.GetConditions().GetNeighborSet()
		if want := append(plan.Imports, plan.Exports...)[i].Cond.Peers != nil; (set != nil) != want {
			t.Errorf("statement %s names a neighbour set: %t, want %t", st.GetName(), set != nil, want)
		}
		if set != nil && members[set.GetName()] == 0 {
			t.Errorf("statement %s names the neighbour set %q, which has no members", st.GetName(), set.GetName())
		}
		if set != nil {
			named++
		}
	}
	if named < 6 {
		t.Errorf("only %d statements name a neighbour set: the test shows little", named)
	}
}
