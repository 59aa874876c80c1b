package rib

import (
	"net/netip"
	"slices"
)

// redecide brings one entry's verdict up to date.
func (t *Table) redecide(e *entry) {
	now, pooled := decide(e, &t.own, &t.hops)
	t.countPooled(e, pooled)
	if now == e.now {
		return
	}
	e.now = now
	t.changed.touch(e)
	t.settleInside(e.prefix)
}

// redecideAll is for changes of pools, own blocks and permissions, which are
// rare and concern any prefix.
func (t *Table) redecideAll() {
	for e := range t.entries.all {
		t.redecide(e)
	}
	for _, hop := range t.hops.inner {
		t.settle(hop)
	}
}

// countPooled notes whether e's next hops are taken for those of a pool's route.
func (t *Table) countPooled(e *entry, pooled bool) {
	if e.pooled != pooled && e.ways.countPooled(e, pooled) {
		t.hops.generation++
	}
}

// internWays returns the one ways value with this set of paths.
func (t *Table) internWays(paths []Path) *ways {
	w, fresh := t.paths.find(paths)
	if !fresh {
		return w
	}
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

// unlink takes e out of its ways' list, and forgets ways nobody has any more.
func (t *Table) unlink(e *entry) {
	w := e.ways
	if w == nil {
		return
	}
	t.countPooled(e, false)
	w.unlink(e)
	if w.first != nil {
		return
	}
	t.paths.forget(w)
	for _, p := range w.set {
		t.release(p.nextHop, w)
		t.release(p.peer, nil)
	}
}

// hold returns the next hop of an address and counts one more user. A new one
// is resolved, and routes that cover it are decided again: they may now take
// away its path.
func (t *Table) hold(addr netip.Addr) *nextHop {
	hop, ok := t.hops.byAddr[addr]
	if !ok {
		hop = t.hops.add(addr, t.own.classOf(addr))
		if hop.isInner() {
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
	hop := t.hops.byAddr[addr]
	if at := slices.Index(hop.ways, w); at >= 0 {
		last := len(hop.ways) - 1
		hop.ways[at], hop.ways[last] = hop.ways[last], nil
		hop.ways = hop.ways[:last]
	}
	if hop.refs--; hop.refs > 0 {
		return
	}
	t.hops.remove(hop)
	t.redecideCovering(hop)
}

// resolve asks for a known next hop again and decides what depends on it when
// the answer differs.
func (t *Table) resolve(hop *nextHop) {
	if t.hops.refresh(hop) {
		t.redecideThrough(hop)
		t.redecideCovering(hop)
	}
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

// throughPool returns the decision of the pool's route to an inner address: of
// the longest one that the kernel holds, because that is the one which its
// packets take.
//
// A route that itself leads into a pool is not looked at. So no two routes can
// wait for each other, and the order of arrival does not matter.
func (t *Table) throughPool(addr netip.Addr) verdict {
	for bits := addr.BitLen(); bits >= 0; bits-- {
		p := netip.PrefixFrom(addr, bits).Masked()
		if t.own.poolOf(p) < 0 {
			break // all shorter ones are outside too
		}
		if e := t.entries.get(p); e != nil && e.now.kind.Installable() && e.leads() {
			return e.now
		}
	}
	return absent
}

// settle brings an inner next hop, and what forwards through it, to the pool's
// present route.
func (t *Table) settle(hop *nextHop) {
	now := t.throughPool(hop.addr)
	if now == *hop.through {
		return
	}
	*hop.through = now
	t.redecideThrough(hop)
}

// settleInside settles the inner next hops inside a prefix whose decision
// changed.
func (t *Table) settleInside(prefix netip.Prefix) {
	if len(t.hops.inner) == 0 || t.own.poolOf(prefix) < 0 {
		return
	}
	at, _ := slices.BinarySearchFunc(t.hops.inner, prefix.Addr(), compareHop)
	for _, hop := range t.hops.inner[at:] {
		if !prefix.Contains(hop.addr) {
			return // sorted: none behind it is inside either
		}
		t.settle(hop)
	}
}
