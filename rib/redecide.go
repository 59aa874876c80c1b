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

// redecideAll decides every route again, after a change of pools, own blocks or
// permissions: these are rare and may affect any prefix.
func (t *Table) redecideAll() {
	for e := range t.entries.all {
		t.redecide(e)
	}
	for _, hop := range t.hops.inner {
		t.settle(hop)
	}
}

// countPooled records whether e's next hops are those of a pool's route.
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

// unlink removes e from its ways' list, and deletes ways without a route.
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
// is resolved, and routes that cover it are decided again, because they may take
// over the way to it.
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

// resolve resolves a next hop again and, when its [Reach] changed, decides the
// routes that depend on it.
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

// redecideCovering decides every route again that may take over the way to hop.
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

// throughPool returns the verdict of the pool's route to an inner address: of the
// longest installed one, because its packets take that.
//
// A route that itself leads into a pool is left out. So no two routes can depend
// on each other, and the order of arrival does not matter.
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

// settle applies the pool's present route to an inner next hop and to the routes
// that forward through it.
func (t *Table) settle(hop *nextHop) {
	now := t.throughPool(hop.addr)
	if now == *hop.through {
		return
	}
	*hop.through = now
	t.redecideThrough(hop)
}

// settleInside settles the inner next hops inside a prefix whose verdict changed.
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
