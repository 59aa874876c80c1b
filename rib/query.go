package rib

import (
	"iter"
	"net/netip"
	"slices"
)

// Route returns the decided route of exactly this prefix; false when the table has
// none.
func (t *Table) Route(prefix netip.Prefix) (Route, bool) {
	e := t.entries.get(prefix.Masked())
	if e == nil || e.gone() {
		return Route{}, false
	}
	return e.route(), true
}

// Lookup returns the longest matching route, installable or not: for an operator
// the unresolved one is the explanation. Use [Table.LookupInstallable] for the
// route that the kernel takes.
func (t *Table) Lookup(addr netip.Addr) (Route, bool) {
	return t.entries.longest(addr, func(*entry) bool { return true })
}

// LookupInstallable returns the longest matching route among those that are
// installed into the kernel.
func (t *Table) LookupInstallable(addr netip.Addr) (Route, bool) {
	return t.entries.longest(addr, func(e *entry) bool { return e.now.kind.Installable() })
}

// Routes yields every decided route, unresolved ones too, IPv4 first, then by
// address and length. The set of prefixes is that at the start of the iteration.
func (t *Table) Routes() iter.Seq[Route] {
	return func(yield func(Route) bool) {
		all := make([]*entry, 0, t.entries.len())
		for e := range t.entries.all {
			if !e.gone() {
				all = append(all, e)
			}
		}
		slices.SortFunc(all, func(a, b *entry) int { return comparePrefix(a.prefix, b.prefix) })
		for _, e := range all {
			if !yield(e.route()) {
				return
			}
		}
	}
}

// Paths returns the candidate paths of exactly this prefix, by next hop, then
// peer.
func (t *Table) Paths(prefix netip.Prefix) []Path {
	e := t.entries.get(prefix.Masked())
	if e == nil || e.ways == nil {
		return nil
	}
	return e.ways.paths()
}

// Shared returns the prefixes inside pools whose paths of our AS have more than
// one next hop, with those next hops: a block has one node, so more are a fault.
// Paths of other ASes do not count, because two ToRs may lead to one node. It
// visits the distinct sets of paths, and the prefixes only of those with several
// next hops.
func (t *Table) Shared() map[netip.Prefix][]netip.Addr {
	out := map[netip.Prefix][]netip.Addr{}
	for _, w := range t.paths.byKey {
		hops := w.inside()
		for e := w.first; e != nil && len(hops) > 1; e = e.next {
			if t.own.poolOf(e.prefix) >= 0 {
				out[e.prefix] = hops
			}
		}
	}
	return out
}

// ReachOf returns the last [Reach] of a next hop or peer; false when it is
// neither.
func (t *Table) ReachOf(nextHop netip.Addr) (Reach, bool) {
	hop, ok := t.hops.byAddr[nextHop.Unmap()]
	if !ok {
		return Reach{}, false
	}
	return hop.reach, true
}

// Counts are the sizes of the table.
type Counts struct {
	Routes    int               // prefixes, unresolved ones too
	Paths     int               // candidates
	NextHops  int               // addresses watched
	Tunnelled int               // routes with a tunnelled member
	ByKind    map[Kind]int      // routes
	ByReason  map[Reason]int    // routes
	ByWay     map[string]int    // members of unicast routes: "direct", or the tunnel device
	ByReach   map[ReachKind]int // addresses watched, by how the kernel reaches them
}

// Counts counts the routes; it visits each once.
func (t *Table) Counts() Counts {
	c := Counts{NextHops: len(t.hops.sorted), ByKind: map[Kind]int{}, ByReason: map[Reason]int{}, ByReach: map[ReachKind]int{}, ByWay: map[string]int{}}
	for _, hop := range t.hops.sorted {
		c.ByReach[hop.reach.Kind]++
	}
	for e := range t.entries.all {
		if e.gone() {
			continue
		}
		c.Routes++
		c.ByKind[e.now.kind]++
		c.ByReason[e.now.reason]++
		if e.ways != nil {
			c.Paths += len(e.ways.set)
		}
		if e.now.kind != Unicast {
			continue
		}
		tunnelled := false
		for h := range e.now.hops.All() {
			if tunnelled = tunnelled || h.Tunnel; h.Tunnel {
				c.ByWay[h.Dev]++
			} else {
				c.ByWay["direct"]++
			}
		}
		if tunnelled {
			c.Tunnelled++
		}
	}
	return c
}
