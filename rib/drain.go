package rib

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
func (t *Table) DrainTo(each func(Change)) { t.changed.drain(&t.entries, each) }
