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

// compare orders ways so that equal sets of paths have one key.
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
	// verdicts caches the decision by pool and address family, see slot; the
	// zero verdict means not yet decided.
	verdicts []verdict
}

// paths returns the set.
func (w *ways) paths() []Path {
	paths := make([]Path, len(w.set))
	for i, one := range w.set {
		paths[i] = Path{NextHop: one.nextHop, Peer: one.peer, EBGP: one.ebgp}
	}
	return paths
}

// pathSets interns the sets of paths.
type pathSets struct {
	byKey map[string]*ways

	// The one found last: the routes of a node come in a row.
	latest      *ways // nil: none
	latestPaths []Path

	setBuf []way // reused by search
	keyBuf []byte
}

// find returns the one ways value with this set of paths; fresh means that it is
// a new one, which has no hops yet.
func (s *pathSets) find(paths []Path) (w *ways, fresh bool) {
	if s.latest != nil && slices.Equal(paths, s.latestPaths) {
		return s.latest, false
	}
	w, fresh = s.search(paths)
	s.latest, s.latestPaths = w, append(s.latestPaths[:0], paths...)
	return w, fresh
}

// search is find for other paths than the latest.
func (s *pathSets) search(paths []Path) (w *ways, fresh bool) {
	set := s.setBuf[:0]
	for _, p := range paths {
		set = append(set, way{nextHop: p.NextHop.Unmap(), peer: p.Peer.Unmap(), ebgp: p.EBGP})
	}
	slices.SortFunc(set, way.compare)
	set = slices.Compact(set)
	s.setBuf = set
	key := appendKey(s.keyBuf[:0], set)
	s.keyBuf = key
	if w, ok := s.byKey[string(key)]; ok {
		return w, false
	}
	w = &ways{key: string(key), set: slices.Clone(set)}
	s.byKey[w.key] = w
	return w, true
}

// forget deletes a set that no route has any more.
func (s *pathSets) forget(w *ways) {
	delete(s.byKey, w.key)
	if s.latest == w {
		s.latest = nil
	}
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

// appendKey encodes a sorted set. Each address is preceded by its length, which
// determines the family: without it two sets could have one key.
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

// names reports whether addr is a next hop or the peer of one of the paths.
func (w *ways) names(addr netip.Addr) bool {
	return slices.ContainsFunc(w.set, func(p way) bool { return p.nextHop == addr || p.peer == addr })
}

// link puts e into the list of w's routes.
func (w *ways) link(e *entry) {
	e.ways, e.prev, e.next = w, nil, w.first
	if w.first != nil {
		w.first.prev = e
	}
	w.first = e
}

// unlink removes e from the list of w's routes.
func (w *ways) unlink(e *entry) {
	if e.prev == nil {
		w.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	}
	e.ways, e.prev, e.next = nil, nil, nil
}

// countPooled records whether the next hops of e, a route of w, are those of a
// pool's route. It reports whether e is now the first such route of w, or was the
// last.
func (w *ways) countPooled(e *entry, pooled bool) bool {
	e.pooled = pooled
	was := w.pooled
	if pooled {
		w.pooled++
	} else {
		w.pooled--
	}
	return was == 0 || w.pooled == 0
}
