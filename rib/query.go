package rib

import (
	"iter"
	"net/netip"
	"slices"
)

// Route returns the decided route of exactly this prefix; false when nobody
// has anything to say about it.
func (t *Table) Route(prefix netip.Prefix) (Route, bool) {
	e := t.entries.get(prefix.Masked())
	if e == nil || e.gone() {
		return Route{}, false
	}
	return e.route(), true
}

// Lookup returns the longest matching route, be it installable or not: an
// operator who asks for an address wants to hear of the unresolved one. Use
// [Table.LookupInstallable] for what the kernel would do.
func (t *Table) Lookup(addr netip.Addr) (Route, bool) {
	return t.entries.longest(addr, func(*entry) bool { return true })
}

// LookupInstallable returns the longest matching route among those that belong
// into the kernel.
func (t *Table) LookupInstallable(addr netip.Addr) (Route, bool) {
	return t.entries.longest(addr, func(e *entry) bool { return e.now.kind.Installable() })
}

// Routes yields every decided route, unresolved ones too, IPv4 first, then by
// address and length. The set is that of the moment of the call.
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
	paths := make([]Path, len(e.ways.set))
	for i, w := range e.ways.set {
		paths[i] = Path{NextHop: w.nextHop, Peer: w.peer, EBGP: w.ebgp}
	}
	return paths
}

// Shared returns the prefixes inside pools that paths of our AS give more than
// one next hop, and those next hops: a block has one node, so more are a fault.
// Paths of other ASes do not count, because two ToRs may lead to one node. It
// visits the distinct sets of paths, and only the prefixes it returns.
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

// ReachOf returns what the table was last told of a next hop or peer; false
// when it is neither.
func (t *Table) ReachOf(nextHop netip.Addr) (Reach, bool) {
	hop, ok := t.hops.byAddr[nextHop.Unmap()]
	if !ok {
		return Reach{}, false
	}
	return hop.reach, true
}

// Counts is the table in numbers.
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
