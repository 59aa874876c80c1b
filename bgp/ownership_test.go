package bgp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"onlink/bgp/hostile"
	"onlink/bgp/policy"
	"onlink/rib"
)

// anyWay is an underlay with a default route.
type anyWay struct{}

// Reach implements rib.Resolver.
func (anyWay) Reach(a netip.Addr) rib.Reach {
	return rib.Reach{
		Kind: rib.Gateway, Match: netip.PrefixFrom(a.WithZone(""), 0).Masked(),
		Hops: rib.MakeHops(rib.Hop{Via: netip.MustParseAddr("10.57.0.1"), Dev: "eth0"}),
	}
}

// decided is where packets for addresses go, decided from the routes of the peers.
func (n *node) decided(addrs []netip.Addr) (out []string) {
	t := rib.NewTable(anyWay{})
	t.SetPools([]rib.Pool{{Prefix: prefix("10.244.0.0/16"), Tunnel: "onlink-ipip"}, {Prefix: prefix("fd00:244::/32"), Tunnel6: "onlink-ip6"}})
	// A loopback address is no next hop, unless it is a configured peer.
	t.SetPermitted(rib.Permit{Peers: []netip.Addr{addr("127.61.0.2"), addr("127.61.1.7"), addr("127.61.2.7")}})
	n.mu.Lock()
	for p, paths := range n.table {
		t.Update(rib.Update{Prefix: p, Paths: paths})
	}
	n.mu.Unlock()
	for _, a := range addrs {
		r, _ := t.LookupInstallable(a)
		var line strings.Builder
		fmt.Fprintf(&line, "%s by %s %s %s", a, r.Prefix, r.Kind, r.Reason)
		for h := range r.Hops.All() {
			fmt.Fprintf(&line, " via %s dev %s", h.Via, h.Dev)
		}
		out = append(out, line.String())
	}
	return out
}

// TestStrangerOwnsNothing: no sequence of announcements of one peer changes
// where packets for another node's block go, after import and the decision
// together. The peer is a client of the reflector, or one of another AS that may
// announce 10.0.0.0/8.
func TestStrangerOwnsNothing(t *testing.T) {
	needsPatches(t)
	nodes := startNodes(t, withBlocks(testConfig(t, "127.61.0.1")), testConfig(t, "127.61.0.2"))
	x, good := nodes[0], nodes[1]
	good.originate("10.244.1.0/26", "10.244.2.64/26")
	client, tor := clientsOf("127.61.1.0/24"), Dynamic{Name: "tors", Prefix: prefix("127.61.2.0/24"), Session: Session{
		Role: EBGP, ASN: 64513, Families: []Family{IPv4, IPv6}, Import: policy.Import{Accept: []policy.PrefixRule{{Prefix: prefix("10.0.0.0/8")}}},
	}}
	client.Families = []Family{IPv4, IPv6}
	client.Import.Accept = []policy.PrefixRule{{Prefix: prefix("10.96.0.0/16")}}
	owner := to("127.61.0.2", Client)
	owner.Passive = true
	x.setPeers([]Peer{owner}, client, tor)
	good.setPeers([]Peer{from(to("127.61.0.1", IBGP), "127.61.0.2")})
	x.waitRoutes("10.244.1.0/26 via 127.61.0.2", "10.244.2.64/26 via 127.61.0.2")
	var addrs []netip.Addr
	for _, a := range []string{"10.244.1.0", "10.244.1.1", "10.244.1.31", "10.244.1.32", "10.244.1.63", "10.244.2.64", "10.244.2.65", "10.244.2.127"} {
		addrs = append(addrs, addr(a))
	}
	before := x.decided(addrs)
	for _, c := range []struct {
		name, at string
		set      hostile.Set
	}{
		{"client", "127.61.1.7", hostile.Set{Self: x.addr, AS: 64512}},
		{"tor", "127.61.2.7", hostile.Set{Self: x.addr, AS: 64513, External: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := c.set.Establish(t.Context(), addr(c.at), netip.AddrPortFrom(x.addr, testPort), patience)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Conn.Close()
			ended := p.Stay(30 * time.Second)
			strange(t, x, p, c.set, func() {
				if got := x.decided(addrs); !slices.Equal(got, before) {
					t.Fatalf("blocks moved: %q, before %q", got, before)
				}
			})
			select {
			case how := <-ended:
				t.Errorf("the session ended: %s", how)
			default:
			}
		})
	}
}

// strange sends claims in random order, some of them withdrawn again, and calls
// check after every few of them, once the speaker has handled them.
func strange(t *testing.T, x *node, p *hostile.Peer, set hostile.Set, check func()) {
	t.Helper()
	var claims []hostile.Claim
	for _, block := range []string{"10.244.1.0/26", "10.244.2.64/26"} {
		claims = append(claims, hostile.Estate{
			Block: prefix(block), Node: addr("127.61.0.2"), Pool: prefix("10.244.0.0/16"), Free: prefix("10.244.200.0/26"),
			Far: addr("10.9.9.9"), Public: prefix("10.96.0.0/16"),
		}.Claims(p.Addr)...)
	}
	r := rand.New(rand.NewPCG(uint64(set.AS), 61))
	for round := range 150 {
		var names []string
		for range 1 + r.IntN(6) {
			c := claims[r.IntN(len(claims))]
			names = append(names, c.Name)
			if r.IntN(3) == 0 {
				p.Send(2, set.Withdraw(c.Prefix))
			} else {
				p.Send(2, set.Announce(c))
			}
		}
		mark := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 96, 128, byte(round)}), 32)
		p.Send(2, set.Announce(hostile.Claim{Prefix: mark, NextHop: p.Addr}))
		eventually(t, func() string {
			x.mu.Lock()
			defer x.mu.Unlock()
			if len(x.table[mark]) == 0 {
				return fmt.Sprintf("%s has not arrived behind %q", mark, names)
			}
			return ""
		})
		check()
		p.Send(2, set.Withdraw(mark))
	}
}
