package rib

import (
	"net/netip"
	"slices"
)

// hopClass is the kind of a next hop's address.
type hopClass uint8

const (
	outerHop   hopClass = iota // the underlay's: the kernel's own routes lead to it
	innerHop                   // inside a pool: the pool's routes lead to it
	martianHop                 // no packet may be handed to it
)

// nextHop is an address whose reachability the table follows: a BGP next hop or
// peer.
type nextHop struct {
	addr  netip.Addr
	reach Reach
	ways  []*ways // that forward through it
	refs  int32   // users: ways by next hop or peer, and Permit.Peers
	class hopClass
	// through is the decision of the pool's route to an inner address; nil for
	// others.
	through *verdict
}

func (hop *nextHop) isInner() bool { return hop.class == innerHop }

// guards reports whether the kernel's way to hop would yield to prefix, which
// contains it.
func (hop *nextHop) guards(prefix netip.Prefix) bool {
	r := hop.reach
	return hop.class == outerHop && (r.Kind == OnLink || r.Kind == Gateway) && r.Match.IsValid() && prefix.Bits() >= r.Match.Bits()
}

func hasOuter(hops []*nextHop) bool {
	return slices.ContainsFunc(hops, func(hop *nextHop) bool { return !hop.isInner() })
}

// nextHops are the BGP next hops and peers, and how each is reached.
type nextHops struct {
	resolver   Resolver
	byAddr     map[netip.Addr]*nextHop
	sorted     []*nextHop // by address: which next hops lie inside a prefix
	inner      []*nextHop // those of sorted that lie inside pools
	generation uint64     // see Table.Generation
}

// add makes and resolves the next hop of an address that has none.
func (g *nextHops) add(addr netip.Addr, class hopClass) *nextHop {
	hop := &nextHop{addr: addr, reach: g.ask(addr), class: class}
	g.generation++
	g.byAddr[addr] = hop
	at, _ := slices.BinarySearchFunc(g.sorted, addr, compareHop)
	g.sorted = slices.Insert(g.sorted, at, hop)
	if class == innerHop {
		at, _ := slices.BinarySearchFunc(g.inner, addr, compareHop)
		g.inner = slices.Insert(g.inner, at, hop)
	}
	return hop
}

// remove deletes hop.
func (g *nextHops) remove(hop *nextHop) {
	delete(g.byAddr, hop.addr)
	g.generation++
	if at, ok := slices.BinarySearchFunc(g.sorted, hop.addr, compareHop); ok {
		g.sorted = slices.Delete(g.sorted, at, at+1)
	}
	if at, ok := slices.BinarySearchFunc(g.inner, hop.addr, compareHop); ok {
		g.inner = slices.Delete(g.inner, at, at+1)
	}
}

func compareHop(h *nextHop, addr netip.Addr) int { return h.addr.Compare(addr) }

// ask resolves an address; an invalid one is unreachable.
func (g *nextHops) ask(addr netip.Addr) Reach {
	if !addr.IsValid() {
		return Reach{}
	}
	return g.resolver.Reach(addr)
}

// refresh resolves a next hop again and reports whether its [Reach] changed.
func (g *nextHops) refresh(hop *nextHop) bool {
	reach := g.ask(hop.addr)
	if reach == hop.reach {
		return false
	}
	hop.reach = reach
	g.generation++
	return true
}

// classify sets the class of all next hops again, after a change of pools or
// permissions. The caller decides all routes again.
func (g *nextHops) classify(classOf func(netip.Addr) hopClass) {
	g.generation++
	g.inner = g.inner[:0]
	for _, hop := range g.sorted {
		if class := classOf(hop.addr); class != hop.class {
			hop.class, hop.through = class, nil
			if hop.isInner() {
				hop.through = &verdict{} // settled when all routes are decided again
			}
			for _, w := range hop.ways {
				clear(w.verdicts)
			}
		}
		if hop.isInner() {
			g.inner = append(g.inner, hop)
		}
	}
}

// takenBy reports whether installing the entry's prefix would change how the
// kernel reaches a BGP next hop or peer. Such a route may break the session or
// the tunnel it depends on, be withdrawn with it, and come back with it: the
// recursive flap of RFC 4271 section 9.1.2.1.
//
// One kind may do so: a prefix outside every pool that only peers of another AS
// announce is a route of the underlay (a ToR announces the other rack). It must not
// cover its own next hop or peer, nor lead into a pool: packets between nodes would
// go into their own tunnel.
//
// An address inside a pool has no way through the underlay that a route could take
// over: the pool's routes reach it, whichever path has it as next hop. Otherwise a
// peer could take a block away with a route whose next hop lies in it.
func (g *nextHops) takenBy(e *entry, outside bool) bool {
	underlay := outside && !slices.ContainsFunc(e.ways.set, func(w way) bool { return !w.ebgp }) &&
		!slices.ContainsFunc(e.ways.hops, (*nextHop).isInner)
	at, _ := slices.BinarySearchFunc(g.sorted, e.prefix.Addr(), compareHop)
	for _, hop := range g.sorted[at:] {
		if !e.prefix.Contains(hop.addr.WithZone("")) {
			return false // sorted: none behind it is inside either
		}
		if !hop.guards(e.prefix) {
			continue
		}
		if !underlay || e.ways.names(hop.addr) {
			return true
		}
	}
	return false
}
