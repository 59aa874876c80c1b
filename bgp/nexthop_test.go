package bgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"onlink/bgp/policy"
)

// TestNextHopOfToR: where the routes of a peer may lead.
func TestNextHopOfToR(t *testing.T) {
	needGuard(t)
	c := withBlocks(testConfig(t, "127.56.0.1"))
	c.PodGateways = []netip.Addr{addr("169.254.1.1"), addr("fe80::ecee:eeff:feee:eeee")}
	n := startNodes(t, c)[0]
	ebgp := func(address string, edit func(*Peer)) Peer {
		p := to(address, EBGP)
		p.ASN, p.Import = 65001, accepting("0.0.0.0/0 ge 1 le 32", "::/0 ge 1 le 128", "10.244.0.0/16")
		edit(&p)
		return p
	}
	near, far := "10.57.1.1", "10.99.0.1"
	n.setPeers([]Peer{
		ebgp(near, func(*Peer) {}),
		ebgp(far, func(p *Peer) { p.Multihop = 4 }),
		ebgp("10.57.1.2", func(p *Peer) { p.Import.DisableConnectedCheck = true }),
		to("10.57.1.3", IBGP),
	})
	const route, route6, foreign, unusable = "192.0.2.0/24", "2001:db8::/32", "neither the peer nor on a subnet shared", "no address of a router"
	judge := func(peer, route, hop string) string {
		t.Helper()
		if peer == "10.57.1.3" { // a prefix in no list of a peer of our AS
			route = map[bool]string{true: "10.244.8.0/26", false: "fd00:244::40/122"}[strings.Contains(route, ".")]
		}
		v, err := n.TestImport(t.Context(), peer, policy.Route{Prefix: prefix(route), NextHop: addr(hop)})
		if err != nil {
			t.Fatal(err)
		}
		if v.Accepted {
			return ""
		}
		return v.Rule
	}
	if got := judge(near, route, "203.0.113.7"); got != "" {
		t.Errorf("while no subnet is known: %q, want it accepted", got)
	}
	if err := n.SetNetworks(t.Context(), []policy.Network{
		{Device: "eth0", Prefix: prefix("10.57.1.0/24")}, {Device: "eth0", Prefix: prefix("fd57:1::/64")}, {Device: "lo", Prefix: prefix("10.58.1.0/31")}, {Device: "eth2", Prefix: prefix("10.59.0.0/24")},
	}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ peer, route, hop, want string }{
		{near, route, near, ""},
		{near, route, "10.57.1.77", ""},
		{near, route6, "fd57:1::1", ""},
		{near, route, "10.57.1.0", "zero or broadcast"},
		{near, route, "10.57.1.255", "zero or broadcast"},
		{near, route6, "fd57:1::", "zero or broadcast"},
		{near, route, "10.59.0.255", "zero or broadcast"},
		{near, route, "10.59.0.7", foreign},
		{near, route, "203.0.113.7", foreign},
		{near, route6, "2001:db8:1::1", foreign},
		{near, route, "169.254.1.1", "gateway of the pods"},
		{near, route, "169.254.7.7", unusable},
		{near, route6, "fe80::7", unusable},
		{near, route, "127.0.0.1", unusable},
		{near, route, "224.0.0.5", unusable},
		{near, route, "255.255.255.255", unusable},
		{near, route, "10.244.3.7", "inside a pool"},
		{near, route6, "fd00:244::7", "inside a pool"},
		{near, "10.244.8.0/26", "10.244.8.1", "inside a pool"},
		{far, route, far, ""},
		{far, route, "10.99.0.2", foreign},
		{"10.57.1.2", route, "203.0.113.7", ""},
		{"10.57.1.2", route, "10.244.3.7", "inside a pool"},
		{"10.57.1.2", route, "10.57.1.255", "zero or broadcast"},
		{"10.57.1.3", route, "203.0.113.7", ""},
		{"10.57.1.3", route, "10.57.1.255", "zero or broadcast"},
		{"10.57.1.3", route6, "fe80::7", unusable},
		{"10.57.1.3", route, "169.254.7.7", unusable},
	} {
		if got := judge(tt.peer, tt.route, tt.hop); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s of %s with next hop %s: %q, want %q", tt.route, tt.peer, tt.hop, got, tt.want)
		}
	}
}

// TestAcceptedCount: Accepted counts the prefixes that policy and the checks after
// it accept, also when they change, when the peer's announcements change, and when
// the subnets of the node change.
func TestAcceptedCount(t *testing.T) {
	needGuard(t)
	tor := testConfig(t, "127.57.0.2")
	tor.ASN, tor.Pools = 65001, nil
	nodes := startNodes(t, testConfig(t, "127.57.0.1"), tor)
	n, r := nodes[0], nodes[1]
	peer := func(accept ...string) Peer {
		p := from(to("127.57.0.2", EBGP), "127.57.0.1")
		p.ASN, p.Import = 65001, accepting(accept...)
		return p
	}
	back := from(to("127.57.0.1", EBGP), "127.57.0.2")
	back.ASN, back.Export.Own = 64512, true
	back.Export.Filters = []policy.Filter{{Name: "third", Rules: []policy.Rule{
		{Match: policy.Match{Prefixes: []policy.PrefixRule{{Prefix: prefix("203.0.113.0/24")}}}, Set: policy.Set{NextHop: policy.NextHop{Kind: policy.NextHopAddress, Addr: addr("10.77.0.9")}}, Action: policy.Accept},
	}}}
	r.originate("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
	r.setPeers([]Peer{back})
	n.setPeers([]Peer{peer("192.0.2.0/24")})
	counted := func(received, accepted int) {
		t.Helper()
		eventually(t, func() string {
			if got := n.peer(r.addr); got.Received != received || got.Accepted != accepted {
				return fmt.Sprintf("received %d, accepted %d; want %d and %d", got.Received, got.Accepted, received, accepted)
			}
			return ""
		})
	}
	networks := func(list ...policy.Network) {
		t.Helper()
		if err := n.SetNetworks(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	counted(3, 1)
	n.setPeers([]Peer{peer("192.0.2.0/24", "203.0.113.0/24")})
	counted(3, 2)
	networks(policy.Network{Device: "lo", Prefix: prefix("127.57.0.0/16")})
	counted(3, 1) // 203.0.113.0/24 leads to a third party
	n.waitRoutes("192.0.2.0/24 via 127.57.0.2")
	networks(policy.Network{Device: "lo", Prefix: prefix("127.57.0.0/16")}, policy.Network{Device: "lo", Prefix: prefix("10.77.0.0/24")})
	counted(3, 2)
	n.waitRoutes("192.0.2.0/24 via 127.57.0.2", "203.0.113.0/24 via 10.77.0.9")
	r.originate("192.0.2.0/24", "203.0.113.0/24")
	counted(2, 2)
	r.originate("192.0.2.0/24", "198.51.100.0/24", "10.1.0.0/16")
	counted(3, 1)
	n.setPeers([]Peer{peer()})
	counted(3, 0)
	r.originate()
	counted(0, 0)
}
