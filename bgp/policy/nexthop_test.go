package policy

import (
	"net/netip"
	"testing"
)

// TestNextHopOfLinkLocalPeer: the routes of a peer at a link-local address lead
// to that link, by its link-local addresses or those of the subnets there.
func TestNextHopOfLinkLocalPeer(t *testing.T) {
	peer := addr("fe80::1")
	g := NewGuard(&Node{PodGateways: []netip.Addr{addr("fe80::ecee:eeff:feee:eeee")}},
		[]Peer{{Neighbor: at("fe80::1"), Device: "eth1", External: true}}, nil,
		Facts{NetworksKnown: true, Networks: []Network{{"eth1", prefix("10.58.1.0/31")}, {"eth0", prefix("10.57.1.0/24")}}})
	w := g.Ward(addr("fe80::1%eth1"))
	if w == nil {
		t.Fatal("the guard does not know the peer")
	}
	for hop, want := range map[string]Refusal{
		"fe80::1": Permitted, "fe80::2": Permitted, "fe80::ecee:eeff:feee:eeee": hopGateway,
		"10.58.1.1": Permitted, "10.58.1.0": Permitted, // the zero address of a subnet of two
		"10.57.1.77": hopForeign, "2001:db8::1": hopForeign,
	} {
		if got := g.JudgeHop(w, peer, addr(hop)); got != want {
			t.Errorf("next hop %s: %q, want %q", hop, g.text(got, w, netip.Prefix{}, addr(hop), addr(hop)), g.text(want, w, netip.Prefix{}, addr(hop), addr(hop)))
		}
	}
}
