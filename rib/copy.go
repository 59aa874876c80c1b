package rib

import (
	"maps"
	"net/netip"
	"slices"
)

// Inputs are what a table was given: with another one of them another table can be
// made, to see what it would decide.
type Inputs struct {
	Pools           []Pool
	Own, Aggregates []netip.Prefix
	Pods            map[netip.Prefix]string // addresses and their devices
	Permit          Permit
	Paths           []Update
}

// Inputs returns a copy of the table's inputs. It decides nothing.
func (t *Table) Inputs() Inputs {
	in := Inputs{
		Pools: slices.Clone(t.own.pools), Own: slices.Clone(t.own.blocks), Aggregates: slices.Clone(t.own.summed),
		Pods: maps.Clone(t.own.pods), Permit: t.own.permit.clone(), Paths: make([]Update, 0, t.entries.len()),
	}
	sets := make(map[*ways][]Path, len(t.paths.byKey)) // many prefixes share one
	for e := range t.entries.all {
		if e.ways == nil {
			continue
		}
		set, known := sets[e.ways]
		if !known {
			set = e.ways.paths()
			sets[e.ways] = set
		}
		in.Paths = append(in.Paths, Update{Prefix: e.prefix, Paths: set})
	}
	return in
}

// Table returns a new table with the inputs, which resolves next hops with r.
func (in *Inputs) Table(r Resolver) *Table {
	t := NewTable(r)
	t.SetPools(in.Pools)
	t.SetPermitted(in.Permit)
	t.SetOwn(in.Own)
	t.SetAggregates(in.Aggregates)
	for addr, dev := range in.Pods {
		t.SetPod(addr, dev)
	}
	for _, u := range in.Paths {
		t.Update(u)
	}
	return t
}
