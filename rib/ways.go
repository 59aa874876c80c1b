package rib

import (
	"cmp"
	"net/netip"
	"slices"
)

// way is a path without its prefix: many prefixes share it.
type way struct {
	nextHop netip.Addr
	peer    netip.Addr
	ebgp    bool
}

// compare orders ways so that equal sets of paths have one spelling.
func (w way) compare(o way) int {
	return cmp.Or(w.nextHop.Compare(o.nextHop), w.peer.Compare(o.peer), boolCompare(w.ebgp, o.ebgp))
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// ways is one interned set of paths, and the routes that have it. A node's
// blocks all share one, so a next hop's routes are found without a scan and
// the hops are computed once for all of them.
type ways struct {
	key   string
	set   []way
	hops  []*nextHop // of set, without duplicates
	first *entry     // list of the routes with these ways, by entry.next
	// pooled counts the routes of that list with entry.pooled.
	pooled int
	// verdicts caches the decision by pool and address family, see
	// [Table.slot]; the zero verdict means not yet decided.
	verdicts []verdict
}

// nextHop is an address whose reachability matters: a BGP next hop or peer.
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

// internWays returns the one ways value with this set of paths.
func (t *Table) internWays(paths []Path) *ways {
	if t.latest != nil && slices.Equal(paths, t.latestPaths) {
		return t.latest
	}
	w := t.searchWays(paths)
	t.latest, t.latestPaths = w, append(t.latestPaths[:0], paths...)
	return w
}

// searchWays is internWays for other paths than the latest.
func (t *Table) searchWays(paths []Path) *ways {
	set := t.setBuf[:0]
	for _, p := range paths {
		set = append(set, way{nextHop: p.NextHop.Unmap(), peer: p.Peer.Unmap(), ebgp: p.EBGP})
	}
	slices.SortFunc(set, way.compare)
	set = slices.Compact(set)
	t.setBuf = set
	key := appendKey(t.keyBuf[:0], set)
	t.keyBuf = key
	if w, ok := t.ways[string(key)]; ok {
		return w
	}
	w := &ways{key: string(key), set: slices.Clone(set)}
	t.ways[w.key] = w
	for _, p := range w.set {
		hop := t.hold(p.nextHop)
		if !slices.Contains(w.hops, hop) {
			w.hops = append(w.hops, hop)
			hop.ways = append(hop.ways, w)
		}
		t.hold(p.peer)
	}
	return w
}

// inside returns the next hops of the paths of our AS, ascending.
func (w *ways) inside() []netip.Addr {
	var hops []netip.Addr
	for _, p := range w.set { // sorted by next hop
		if !p.ebgp && (len(hops) == 0 || hops[len(hops)-1] != p.nextHop) {
			hops = append(hops, p.nextHop)
		}
	}
	return hops
}

// appendKey spells a sorted set as bytes: AppendBinary's length says the
// address family, so each address is preceded by it.
func appendKey(b []byte, set []way) []byte {
	for _, w := range set {
		for _, a := range [2]netip.Addr{w.nextHop, w.peer} {
			at := len(b)
			b = append(b, 0)
			b, _ = a.AppendBinary(b) // never fails, see its documentation
			b[at] = byte(len(b) - at - 1)
		}
		if w.ebgp {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	return b
}

// link puts e into the list of w's routes.
func (t *Table) link(w *ways, e *entry) {
	e.ways, e.prev, e.next = w, nil, w.first
	if w.first != nil {
		w.first.prev = e
	}
	w.first = e
}

// unlink takes e out of its ways' list, and forgets ways nobody has any more.
func (t *Table) unlink(e *entry) {
	w := e.ways
	if w == nil {
		return
	}
	t.countPooled(e, false)
	if e.prev == nil {
		w.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	}
	e.ways, e.prev, e.next = nil, nil, nil
	if w.first != nil {
		return
	}
	delete(t.ways, w.key)
	if t.latest == w {
		t.latest = nil
	}
	for _, p := range w.set {
		t.release(p.nextHop, w)
		t.release(p.peer, nil)
	}
}

// countPooled notes whether e's next hops are taken for those of a pool's route.
func (t *Table) countPooled(e *entry, pooled bool) {
	if e.pooled == pooled {
		return
	}
	e.pooled = pooled
	was := e.ways.pooled
	if pooled {
		e.ways.pooled++
	} else {
		e.ways.pooled--
	}
	if was == 0 || e.ways.pooled == 0 {
		t.generation++
	}
}

// hold returns the next hop of an address and counts one more user. A new one
// is resolved, and routes that cover it are decided again: they may now take
// away its path.
func (t *Table) hold(addr netip.Addr) *nextHop {
	hop, ok := t.hops[addr]
	if !ok {
		hop = &nextHop{addr: addr, reach: t.ask(addr), class: t.classOf(addr)}
		t.generation++
		t.hops[addr] = hop
		at, _ := slices.BinarySearchFunc(t.sorted, addr, compareHop)
		t.sorted = slices.Insert(t.sorted, at, hop)
		if hop.class == innerHop {
			at, _ := slices.BinarySearchFunc(t.inner, addr, compareHop)
			t.inner = slices.Insert(t.inner, at, hop)
			through := t.throughPool(addr)
			hop.through = &through
		}
		t.redecideCovering(hop)
	}
	hop.refs++
	return hop
}

// release undoes one hold; w, when not nil, no longer forwards through addr.
func (t *Table) release(addr netip.Addr, w *ways) {
	hop := t.hops[addr]
	if at := slices.Index(hop.ways, w); at >= 0 {
		last := len(hop.ways) - 1
		hop.ways[at], hop.ways[last] = hop.ways[last], nil
		hop.ways = hop.ways[:last]
	}
	if hop.refs--; hop.refs > 0 {
		return
	}
	delete(t.hops, addr)
	t.generation++
	if at, ok := slices.BinarySearchFunc(t.sorted, addr, compareHop); ok {
		t.sorted = slices.Delete(t.sorted, at, at+1)
	}
	if at, ok := slices.BinarySearchFunc(t.inner, addr, compareHop); ok {
		t.inner = slices.Delete(t.inner, at, at+1)
	}
	t.redecideCovering(hop)
}

func compareHop(h *nextHop, addr netip.Addr) int { return h.addr.Compare(addr) }

// ask resolves an address; an invalid one is unreachable.
func (t *Table) ask(addr netip.Addr) Reach {
	if !addr.IsValid() {
		return Reach{}
	}
	return t.resolver.Reach(addr)
}

// resolve asks for a known next hop again and decides what depends on it when
// the answer differs.
func (t *Table) resolve(hop *nextHop) {
	reach := t.ask(hop.addr)
	if reach == hop.reach {
		return
	}
	hop.reach = reach
	t.generation++
	t.redecideThrough(hop)
	t.redecideCovering(hop)
}

// redecideThrough decides every route that forwards through hop again.
func (t *Table) redecideThrough(hop *nextHop) {
	for _, w := range hop.ways {
		clear(w.verdicts)
		for e := w.first; e != nil; e = e.next {
			t.redecide(e)
		}
	}
}

// redecideCovering decides every known prefix that may take away the path to
// hop again.
func (t *Table) redecideCovering(hop *nextHop) {
	addr := hop.addr
	if !addr.IsValid() || hop.class != outerHop {
		return
	}
	for bits := addr.BitLen(); bits >= 0; bits-- {
		p, err := addr.Prefix(bits)
		if err != nil { // a zone: such an address is in no prefix
			return
		}
		if e := t.entries.get(p); e != nil {
			t.redecide(e)
		}
	}
}
