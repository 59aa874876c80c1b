package rib

import (
	"net/netip"
	"slices"
)

// SetPools replaces the pools. Routes are decided again when they differ.
func (t *Table) SetPools(pools []Pool) {
	if !t.own.setPools(pools) {
		return
	}
	for _, w := range t.paths.byKey {
		w.verdicts = nil
	}
	t.hops.classify(t.own.classOf)
	t.redecideAll()
}

// SetOwn replaces the set of this node's confirmed blocks: each becomes a
// blackhole route, and no learned route inside one is installed.
func (t *Table) SetOwn(blocks []netip.Prefix) {
	blocks = normalize(blocks)
	if slices.Equal(blocks, t.own.blocks) {
		return
	}
	for _, p := range t.own.blocks {
		t.entries.get(p).own = false
	}
	t.own.blocks = blocks
	for _, p := range blocks {
		t.entry(p).own = true
	}
	t.redecideAll()
}

// SetAggregates replaces the set of aggregates that this node announces: each
// becomes a blackhole route, so that a packet for an unused part of it does not
// loop between this node and the ToR. Learned routes inside are installed.
func (t *Table) SetAggregates(prefixes []netip.Prefix) {
	prefixes = normalize(prefixes)
	for _, p := range t.own.summed {
		e := t.entries.get(p)
		e.summed = slices.Contains(prefixes, p)
		t.redecide(e)
	}
	t.own.summed = prefixes
	for _, p := range prefixes {
		if e := t.entry(p); !e.summed {
			e.summed = true
			t.redecide(e)
		}
	}
}

// SetPod says that the address (a full-length prefix) belongs to a pod behind
// the host device dev. The device need not exist yet. An invalid prefix or an
// empty device name is ignored.
func (t *Table) SetPod(addr netip.Prefix, dev string) {
	addr = addr.Masked()
	if !addr.IsValid() || dev == "" {
		return
	}
	t.own.pods[addr] = dev
	e := t.entry(addr)
	e.pod = true
	t.redecide(e)
}

// DeletePod undoes [Table.SetPod]; an unknown address is no error.
func (t *Table) DeletePod(addr netip.Prefix) {
	addr = addr.Masked()
	if _, ok := t.own.pods[addr]; !ok {
		return
	}
	delete(t.own.pods, addr)
	e := t.entries.get(addr)
	e.pod = false
	t.redecide(e)
}

// SetPermitted replaces the bounds of learned routes.
func (t *Table) SetPermitted(p Permit) {
	old := t.own.permit.Peers
	if !t.own.setPermit(p) {
		return
	}
	t.hops.classify(t.own.classOf)
	for _, a := range t.own.permit.Peers {
		t.hold(a)
	}
	for _, a := range old {
		t.release(a, nil)
	}
	t.redecideAll()
}

// Update replaces the paths of a prefix. Host bits are cleared, IPv4-mapped
// addresses become IPv4; an invalid prefix is ignored.
func (t *Table) Update(u Update) {
	prefix := u.Prefix.Masked()
	if !prefix.IsValid() {
		return
	}
	if len(u.Paths) == 0 {
		if e := t.entries.get(prefix); e != nil && e.ways != nil {
			t.unlink(e)
			t.redecide(e)
		}
		return
	}
	e := t.entry(prefix)
	w := t.internWays(u.Paths)
	if w == e.ways {
		return
	}
	t.unlink(e)
	w.link(e)
	t.redecide(e)
}

// NextHopsChanged resolves those of the addresses again that are next hops or
// peers here, and decides again the routes of those whose [Reach] changed.
func (t *Table) NextHopsChanged(addrs []netip.Addr) {
	for _, a := range addrs {
		if hop, ok := t.hops.byAddr[a.Unmap()]; ok {
			t.resolve(hop)
		}
	}
}

// AllNextHopsChanged is [Table.NextHopsChanged] for every next hop and peer.
func (t *Table) AllNextHopsChanged() {
	for _, hop := range t.hops.sorted {
		t.resolve(hop)
	}
}
