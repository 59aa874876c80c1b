package rib

// Change is one difference between two calls of [Table.Drain].
type Change struct {
	Route Route
	// Deleted says that the prefix is no longer installable: withdrawn, or
	// Unresolved for Route.Reason.
	Deleted bool
}

// changes are the entries that changed since the last Drain.
type changes struct {
	dirty []*entry // each once
}

// keepDirty is the capacity of the dirty list that is kept between Drains.
const keepDirty = 4096

// touch puts e on the list of the next Drain.
func (c *changes) touch(e *entry) {
	if !e.dirty {
		e.dirty = true
		c.dirty = append(c.dirty, e)
	}
}

// drain calls each with every difference since the last call, and removes the
// prefixes that are gone from entries.
func (c *changes) drain(entries *index, each func(Change)) {
	for i, e := range c.dirty {
		c.dirty[i] = nil
		was, now := e.told.kind.Installable(), e.now.kind.Installable()
		if (was || now) && e.told != e.now {
			each(Change{Route: e.route(), Deleted: !now})
		}
		e.told, e.dirty = e.now, false
		if e.gone() {
			entries.remove(e)
		}
	}
	c.dirty = c.dirty[:0]
	if cap(c.dirty) > keepDirty {
		c.dirty = nil // free the memory of a full load
	}
}
