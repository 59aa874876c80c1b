package cluster

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestParseRoutes reads what BIRD 2.0.12 prints.
func TestParseRoutes(t *testing.T) {
	t.Parallel()
	got, err := parseRoutes(`Table master4:
203.0.113.11/32      unicast [r1n2 17:00:00.000] * (100) [AS64512i]
	via 10.57.1.12 on rack
	Type: BGP univ
	BGP.origin: IGP
	BGP.as_path: 64512
	BGP.next_hop: 10.57.1.12
	BGP.local_pref: 100
                     unicast [r1n1 17:00:01.000] (100) [AS64512i]
	via 10.57.1.11 on rack
	Type: BGP univ
	BGP.local_pref: 0
	BGP.community: (65535,0)
203.0.113.64/29      unicast [r1n1 17:00:01.000] * (100) [AS64512i]
	via 10.57.1.11 on rack
	BGP.local_pref: 100

Table master6:
fd00:203::b/128      unicast [r1n1 17:00:01.000] * (100) [AS64512i]
	via fd57:1::11 on rack
	BGP.local_pref: 100
`)
	if err != nil {
		t.Fatal(err)
	}
	want := map[netip.Prefix][]Path{
		netip.MustParsePrefix("203.0.113.11/32"): {{Node: "r1n2", LocalPref: 100}, {Node: "r1n1", Communities: "(65535,0)"}},
		netip.MustParsePrefix("203.0.113.64/29"): {{Node: "r1n1", LocalPref: 100}},
		netip.MustParsePrefix("fd00:203::b/128"): {{Node: "r1n1", LocalPref: 100}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
}
