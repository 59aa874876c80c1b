package nft

import (
	"cmp"
	"net/netip"
	"slices"
)

// State is everything that the table expresses. Order and repetitions do not
// matter; IPv4 addresses in IPv6 form are taken as IPv4.
type State struct {
	MasqueradeFrom []netip.Prefix // pools with natOutgoing: their packets that leave all pools get the node's address
	Pools          []netip.Prefix // all pools: packets into them keep their source

	Guard bool // tunnelled packets are accepted only from Nodes
	// Nodes are the addresses tunnelled packets may come from: the other
	// nodes', and the far ends of tunnels that are not onlink's.
	Nodes []netip.Addr
	// AntiSpoof drops a pod's packets from an address that is not its own. It
	// needs [SupportsAntiSpoof].
	AntiSpoof bool
	VXLANPort uint16 // UDP port that the guard protects as well; 0: none
	// Registry is where the block registry is served; no packet out of Pools gets
	// there.
	Registry []netip.AddrPort
	// Spread names the devices whose packets are marked with [ours.SpreadMark].
	Spread []string
}

// normal returns the state in the one form that equal states share: sorted,
// without repetitions, without prefixes inside other prefixes.
func (s State) normal() State {
	s.MasqueradeFrom = disjoint(s.MasqueradeFrom)
	s.Pools = disjoint(s.Pools)
	s.Spread = slices.Clone(s.Spread)
	slices.Sort(s.Spread)
	s.Spread = slices.Compact(s.Spread)
	s.Registry = endpoints(s.Registry)
	if !s.Guard {
		s.Nodes, s.VXLANPort = nil, 0
		return s
	}
	nodes := make([]netip.Addr, 0, len(s.Nodes))
	for _, n := range s.Nodes {
		if n.IsValid() {
			nodes = append(nodes, n.Unmap().WithZone(""))
		}
	}
	slices.SortFunc(nodes, netip.Addr.Compare)
	s.Nodes = slices.Compact(nodes)
	return s
}

// sameRules reports whether two normal states differ at most in their nodes.
func (s State) sameRules(o State) bool {
	return s.Guard == o.Guard && s.AntiSpoof == o.AntiSpoof && s.VXLANPort == o.VXLANPort &&
		slices.Equal(s.Spread, o.Spread) && slices.Equal(s.Registry, o.Registry) && slices.Equal(s.MasqueradeFrom, o.MasqueradeFrom) && slices.Equal(s.Pools, o.Pools)
}

// disjoint returns the prefixes sorted by address, without invalid ones and
// without those that lie inside another: an interval set refuses overlaps.
func disjoint(list []netip.Prefix) []netip.Prefix {
	sorted := make([]netip.Prefix, 0, len(list))
	for _, p := range list {
		if !p.IsValid() {
			continue
		}
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		sorted = append(sorted, p.Masked())
	}
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	kept := sorted[:0]
	for _, p := range sorted {
		if n := len(kept); n > 0 && kept[n-1].Overlaps(p) {
			continue
		}
		kept = append(kept, p)
	}
	return kept
}

// interval is a range of addresses, both ends included.
type interval struct{ first, last netip.Addr }

// intervals returns the prefixes of one family as ranges; neighbours are
// joined, because the end of one would be the start of the next.
func intervals(list []netip.Prefix, v4 bool) []interval {
	var out []interval
	for _, p := range list {
		if p.Addr().Is4() != v4 {
			continue
		}
		next := interval{p.Addr(), lastOf(p)}
		if n := len(out); n > 0 && out[n-1].last.Next() == next.first {
			out[n-1].last = next.last
			continue
		}
		out = append(out, next)
	}
	return out
}

// lastOf returns the highest address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// difference returns the elements of a that b lacks; both are sorted.
func difference(a, b []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, x := range a {
		if _, found := slices.BinarySearchFunc(b, x, netip.Addr.Compare); !found {
			out = append(out, x)
		}
	}
	return out
}
