package rib

import (
	"net/netip"
	"slices"
)

// Generation changes whenever [Table.Nodes] or [Table.Devices] may answer
// otherwise than before.
func (t *Table) Generation() uint64 { return t.generation }

// Nodes returns the other nodes, in address order: the next hops of routes
// into a pool. Only they tunnel to us. A ToR that announces pool prefixes with
// itself as next hop is none, because it forwards plainly.
func (t *Table) Nodes() []netip.Addr {
	var out []netip.Addr
	for _, hop := range t.sorted {
		if hop.addr.IsValid() && hop.reach.Kind != Self && slices.ContainsFunc(hop.ways, hop.isNodeOf) {
			out = append(out, hop.addr)
		}
	}
	return out
}

// isNodeOf reports whether w has a route into a pool through hop as a node.
func (hop *nextHop) isNodeOf(w *ways) bool {
	return w.pooled > 0 && slices.ContainsFunc(w.set, func(p way) bool {
		return p.nextHop == hop.addr && (!p.ebgp || p.peer != hop.addr || hop.reach.Kind != OnLink)
	})
}

// Devices returns the names of the devices that next hops and peers are
// reached over: the underlay, as far as onlink uses it; sorted.
func (t *Table) Devices() []string {
	var out []string
	for _, hop := range t.sorted {
		for h := range hop.reach.Hops.All() {
			if at, found := slices.BinarySearch(out, h.Dev); !found {
				out = slices.Insert(out, at, h.Dev)
			}
		}
	}
	return out
}
