package rib

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// owned is a table with the blocks of other nodes, as honest peers announce
// them, in pools of all kinds, and an underlay that reaches every address.
type owned struct {
	table  *Table
	reach  underlay
	blocks []netip.Prefix
}

func newOwned() *owned {
	o := &owned{reach: underlay{}}
	o.table = NewTable(everywhere{o.reach})
	gateway := MakeHops(Hop{Via: netip.MustParseAddr("10.57.0.1"), Dev: "eth0"})
	for _, node := range []string{"10.57.0.12", "10.57.0.13", "fd57::12"} {
		o.reach[netip.MustParseAddr(node)] = Reach{Kind: OnLink, Hops: MakeHops(Hop{Dev: "eth0"}), Match: pfx("10.57.0.0/24")}
	}
	for _, node := range []string{"10.58.0.11", "10.58.0.12"} {
		o.reach[netip.MustParseAddr(node)] = Reach{Kind: Gateway, Hops: gateway, Match: pfx("0.0.0.0/0")}
	}
	o.table.SetPools([]Pool{
		{Prefix: pfx("10.244.0.0/16"), Tunnel: "onlink-ipip", Tunnel6: "onlink-ip6"},
		{Prefix: pfx("10.245.0.0/16"), Encap: Never},
		{Prefix: pfx("10.246.0.0/16"), Encap: Always, Tunnel: "onlink-vxlan", Tunnel6: "onlink-vxlan6"},
		{Prefix: pfx("fd44::/48"), Tunnel: "onlink-ipip", Tunnel6: "onlink-ip6"},
	})
	o.table.SetPermitted(Permit{Default: true, NodeSubnets: prefixes([]string{"10.57.0.0/24", "fd57::/64"}), Peers: []netip.Addr{netip.MustParseAddr("10.57.0.10")}})
	o.table.SetOwn(prefixes([]string{"10.244.9.0/26"}))
	o.table.SetPod(pfx("10.244.9.5/32"), "onl00000000007")
	for block, node := range map[string]string{
		"10.244.1.0/26": "10.57.0.12", "10.244.2.0/26": "10.58.0.11", "10.245.1.0/26": "10.58.0.12",
		"10.245.2.0/26": "10.57.0.13", "10.246.1.0/26": "10.57.0.12", "fd44::100/122": "fd57::12",
	} {
		o.blocks = append(o.blocks, pfx(block))
		o.table.Update(Update{Prefix: pfx(block), Paths: []Path{{NextHop: netip.MustParseAddr(node), Peer: netip.MustParseAddr("10.57.0.10")}}})
	}
	slices.SortFunc(o.blocks, comparePrefix)
	return o
}

// everywhere is an underlay with a default route.
type everywhere struct{ underlay }

// Reach implements Resolver.
func (e everywhere) Reach(a netip.Addr) Reach {
	if r, ok := e.underlay[a]; ok {
		return r
	}
	return Reach{Kind: Gateway, Hops: MakeHops(Hop{Via: netip.MustParseAddr("10.57.0.1"), Dev: "eth0"}), Match: netip.PrefixFrom(a.WithZone(""), 0).Masked()}
}

// say returns where the packets for each block go: for its first, some and its
// last address.
func (o *owned) say() (out []string) {
	for _, b := range o.blocks {
		for _, a := range []netip.Addr{b.Addr(), b.Addr().Next(), b.Addr().Next().Next().Next().Next().Next()} {
			r, _ := o.table.LookupInstallable(a)
			out = append(out, a.String()+" by "+spell(r))
		}
	}
	return out
}

// stranger announces prefixes that import accepts from a peer: any that is not a
// block of another node or inside one, with any next hop.
type stranger struct {
	*rand.Rand

	peer netip.Addr
	ebgp bool
}

func (s *stranger) addr(o *owned) netip.Addr {
	b := o.blocks[s.IntN(len(o.blocks))]
	switch s.IntN(6) {
	case 0: // inside a block
		return netip.PrefixFrom(b.Addr().Next().Next(), b.Bits()).Addr()
	case 1: // inside a pool, free
		return netip.AddrFrom4([4]byte{10, byte(244 + s.IntN(3)), byte(100 + s.IntN(4)), byte(s.IntN(256))})
	case 2: // a node, or beside one
		return netip.AddrFrom4([4]byte{10, byte(57 + s.IntN(2)), 0, byte(9 + s.IntN(6))})
	case 3:
		return netip.MustParseAddr([]string{"169.254.1.1", "fe80::1%eth0", "fd57::12", "fd44::107", "10.244.9.5", "10.244.9.6", "0.0.0.0", "255.255.255.255"}[s.IntN(8)])
	case 4:
		return s.peer
	}
	return netip.AddrFrom4([4]byte{byte(s.IntN(256)), byte(s.IntN(256)), 0, byte(s.IntN(256))})
}

// prefix returns one that covers blocks, pools or nodes, but is no part of a block.
func (s *stranger) prefix(o *owned) netip.Prefix {
	for {
		a := s.addr(o).WithZone("")
		p := netip.PrefixFrom(a, s.IntN(a.BitLen()+1)).Masked()
		if !inside(o.blocks, p) {
			return p
		}
	}
}

// TestStrangerChangesNoBlock: no sequence of announcements of one peer changes
// where the packets for a block go that this peer does not own, as long as
// import refuses the block itself and its parts from it. In particular none of its
// next hops, and no route of it that covers others, does.
func TestStrangerChangesNoBlock(t *testing.T) {
	const histories, steps = 300, 80
	for seed := range uint64(histories) {
		s := &stranger{Rand: rand.New(rand.NewPCG(seed, 7)), peer: netip.MustParseAddr("10.57.0.66"), ebgp: seed%2 == 0}
		o := newOwned()
		before := o.say()
		for _, line := range before {
			if len(line) < len("10.244.1.0 by 10.244.1.0/26") {
				t.Fatalf("a block has no route at the start: %s", before)
			}
		}
		announced := map[netip.Prefix]bool{}
		var history []string
		for range steps {
			p := s.prefix(o)
			var paths []Path
			if s.IntN(4) > 0 {
				for range 1 + s.IntN(3) {
					paths = append(paths, Path{NextHop: s.addr(o), Peer: s.peer, EBGP: s.ebgp})
				}
			} else if len(announced) > 0 {
				for p = range announced {
					break
				}
			}
			announced[p] = len(paths) > 0
			o.table.Update(Update{Prefix: p, Paths: paths})
			history = append(history, fmt.Sprint(p, paths))
			if diff := cmp.Diff(before, o.say()); diff != "" {
				t.Fatalf("seed %d: blocks moved, -before +now\n%s\nafter %s", seed, diff, lines(history))
			}
			if bad := slices.IndexFunc(slices.Collect(o.table.Routes()), func(r Route) bool { return r.Kind.Installable() && Martian(r.Prefix) }); bad >= 0 {
				t.Fatalf("seed %d: a martian is installed after %s", seed, lines(history))
			}
		}
	}
}
