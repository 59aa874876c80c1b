package policy

import (
	"fmt"
	"net/netip"
	"testing"
)

// at is the prefix of a peer with one address.
func at(a string) netip.Prefix { return netip.PrefixFrom(addr(a), addr(a).BitLen()) }

// TestDefaultRouteNeedsItsName: a rule that accepts everything does not accept
// the default route, one that names it does.
func TestDefaultRouteNeedsItsName(t *testing.T) {
	tor := Peer{Neighbor: at("192.0.2.1"), ASN: 65001, External: true, Import: Import{Filters: []Filter{{Name: "all", Rules: []Rule{{Action: Accept}}}}}}
	test := func(route string) bool {
		plan := NewPlan(&Node{ASN: 64512, Addresses: []netip.Addr{addr("192.0.2.9")}, Pools: []Pool{{Prefix: prefix("10.244.0.0/16")}}}, []Peer{tor}, nil, nil)
		return plan.Import(&tor, Ends{Peer: addr("192.0.2.1")}, Route{Prefix: prefix(route), NextHop: addr("192.0.2.1")}).Accepted
	}
	for route, want := range map[string]bool{"0.0.0.0/0": false, "::/0": false, "0.0.0.0/1": true, "fd00::/8": true, "10.0.0.1/32": true} {
		if got := test(route); got != want {
			t.Errorf("%s: accepted %t, want %t", route, got, want)
		}
	}
	tor.Import.Filters[0].Rules[0].Match.Prefixes = []PrefixRule{{Prefix: prefix("0.0.0.0/0")}}
	if !test("0.0.0.0/0") {
		t.Error("0.0.0.0/0 is named and not accepted")
	}
}

// TestEveryClassHasNeighbours: a statement with an empty neighbour set applies to
// all peers in the engine, so a plan must never have one.
func TestEveryClassHasNeighbours(t *testing.T) {
	accept := Import{Accept: []PrefixRule{{Prefix: prefix("10.0.0.0/8")}}}
	peers := []Peer{
		{Neighbor: at("10.0.0.1"), ASN: 64512},
		{Neighbor: at("10.0.0.2"), ASN: 64512},
		{Neighbor: at("fd00::1"), ASN: 64512},
		{Neighbor: at("10.0.0.3"), ASN: 65001, External: true, Import: accept},
	}
	ranges := []Peer{{Neighbor: prefix("10.0.0.0/8"), ASN: 64512}, {Neighbor: prefix("10.9.0.0/16"), ASN: 64512}}
	plan := NewPlan(&Node{ASN: 64512}, peers, ranges, []OwnPrefix{{Prefix: prefix("10.244.0.0/26")}})
	var got []string
	for _, k := range plan.classes {
		got = append(got, fmt.Sprint(k.Neighbors))
	}
	want := "[[10.0.0.1/32 10.0.0.2/32] [fd00::1/128] [10.0.0.3/32] [10.9.0.0/16] [10.0.0.0/8]]"
	if fmt.Sprint(got) != want {
		t.Errorf("classes %s, want %s", got, want)
	}
	for _, st := range append(plan.Imports, plan.Exports...) {
		if st.Cond.Peers != nil && len(st.Cond.Peers.Neighbors) == 0 {
			t.Errorf("statement %q is for a class without neighbours", st.Rule)
		}
	}
}
