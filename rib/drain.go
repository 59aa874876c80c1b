package rib

import "net/netip"

// Change is one difference between two calls of [Table.Drain].
type Change struct {
	Route Route
	// Deleted says that the prefix is no longer installable: withdrawn, or
	// Unresolved for Route.Reason.
	Deleted bool
}

// Drain returns what the kernel must be told since the last Drain: each prefix
// at most once, with its latest route, in the order of first change. A prefix
// that is back where it was is left out.
func (t *Table) Drain() []Change {
	var changes []Change
	t.DrainTo(func(c Change) { changes = append(changes, c) })
	return changes
}

// DrainTo is [Table.Drain] that calls each, which must not change the table,
// and so needs no memory for a list.
func (t *Table) DrainTo(each func(Change)) {
	for i, e := range t.dirty {
		t.dirty[i] = nil
		was, now := e.told.kind.Installable(), e.now.kind.Installable()
		if (was || now) && e.told != e.now {
			each(Change{Route: e.route(), Deleted: !now})
		}
		e.told, e.dirty = e.now, false
		if e.gone() {
			t.entries.remove(e)
		}
	}
	t.dirty = t.dirty[:0]
	if cap(t.dirty) > keepDirty {
		t.dirty = nil // a full load is no reason to keep its list for ever
	}
}

// keepDirty is the capacity of the dirty list that is kept between Drains.
const keepDirty = 4096

// touch puts e on the list of the next Drain.
func (t *Table) touch(e *entry) {
	if !e.dirty {
		e.dirty = true
		t.dirty = append(t.dirty, e)
	}
}

// gone reports whether nobody has anything to say about the prefix; the entry
// lives on until Drain has told so.
func (e *entry) gone() bool { return e.ways == nil && !e.own && !e.summed && !e.pod }

// route returns the decided route of e.
func (e *entry) route() Route {
	return Route{Prefix: e.prefix, Kind: e.now.kind, Reason: e.now.reason, Hops: e.now.hops}
}

// Route returns the decided route of exactly this prefix; false when nobody
// has anything to say about it.
func (t *Table) Route(prefix netip.Prefix) (Route, bool) {
	e := t.entries.get(prefix.Masked())
	if e == nil || e.gone() {
		return Route{}, false
	}
	return e.route(), true
}
