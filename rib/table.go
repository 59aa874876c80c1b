package rib

import "net/netip"

// Resolver reports how the kernel's FIB, without onlink's routes, reaches a next
// hop. Package fib/underlay implements it. It must be quick: the table calls it
// once for each new next hop and once for each that an event names.
type Resolver interface {
	Reach(nextHop netip.Addr) Reach
}

// Table is the routing information base: paths in, routes out. It is not safe
// for concurrent use.
type Table struct {
	own     ownership
	entries index
	paths   pathSets
	hops    nextHops
	changed changes
}

// NewTable returns an empty table that resolves next hops with r.
func NewTable(r Resolver) *Table {
	return &Table{
		own:   ownership{pods: map[netip.Prefix]string{}},
		paths: pathSets{byKey: map[string]*ways{}},
		hops:  nextHops{resolver: r, byAddr: map[netip.Addr]*nextHop{}},
	}
}

// entry returns the entry of a prefix, new and absent when there is none.
func (t *Table) entry(prefix netip.Prefix) *entry {
	e := t.entries.get(prefix)
	if e == nil {
		e = &entry{prefix: prefix, now: absent, told: absent}
		t.entries.put(e)
		t.changed.touch(e) // so that Drain deletes it if it stays absent
	}
	return e
}
