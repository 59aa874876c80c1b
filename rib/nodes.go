package rib

import (
	"iter"
	"net/netip"
	"slices"
)

// NextHops yields, in address order, every address whose reachability the table
// follows: BGP next hops and peers. The table must not be changed meanwhile.
func (t *Table) NextHops() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for _, hop := range t.hops.sorted {
			if hop.addr.IsValid() && !yield(hop.addr) {
				return
			}
		}
	}
}

// Generation changes whenever the result of [Table.Nodes] or [Table.Devices] may
// have changed.
func (t *Table) Generation() uint64 { return t.hops.generation }

// Nodes returns the other nodes, in address order: the next hops of routes into a
// pool that peers of our AS announce, or peers of another AS for which the
// operator named a pool ([Permit.PoolPeers]). Only nodes tunnel to us. A ToR that
// announces pool prefixes with itself as next hop is none, because it forwards
// without a tunnel; nor is an address inside a pool, or the next hop of a route
// that is refused as a whole.
func (t *Table) Nodes() []netip.Addr {
	var out []netip.Addr
	for _, hop := range t.hops.sorted {
		if hop.addr.IsValid() && hop.addr.Zone() == "" && hop.class == outerHop && hop.reach.Kind != Self &&
			slices.ContainsFunc(hop.ways, func(w *ways) bool { return t.own.isNode(hop, w) }) {
			out = append(out, hop.addr)
		}
	}
	return out
}

// Devices returns the names, sorted, of the devices over which next hops and peers
// are reached: the part of the underlay that onlink uses.
func (t *Table) Devices() []string {
	var out []string
	for _, hop := range t.hops.sorted {
		if hop.class != outerHop {
			continue // not reached over the underlay
		}
		for h := range hop.reach.Hops.All() {
			if at, found := slices.BinarySearch(out, h.Dev); !found {
				out = slices.Insert(out, at, h.Dev)
			}
		}
	}
	return out
}
