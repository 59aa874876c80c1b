package rib

// Drain returns the changes to install since the last Drain: each prefix at most
// once, with its latest route, in the order of first change. A prefix whose route
// is again that of the last Drain is left out.
func (t *Table) Drain() []Change {
	var changes []Change
	t.DrainTo(func(c Change) { changes = append(changes, c) })
	return changes
}

// DrainTo is [Table.Drain] without memory for a list: it calls each, which must
// not change the table.
func (t *Table) DrainTo(each func(Change)) { t.changed.drain(&t.entries, each) }
