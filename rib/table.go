package rib

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
)

// Resolver says how the kernel's FIB, without onlink's routes, reaches a next
// hop. Package fib/underlay implements it. The answer must be quick: it is
// asked once for each new next hop and once for each that an event names.
type Resolver interface {
	Reach(nextHop netip.Addr) Reach
}

// Table is the routing information base: paths in, routes out. It is not safe
// for concurrent use.
type Table struct {
	resolver Resolver
	pools    []Pool // longest prefix first, so the first match is the pool
	permit   Permit
	own      []netip.Prefix
	summed   []netip.Prefix // aggregates that this node announces
	pods     map[netip.Prefix]string

	entries index
	ways    map[string]*ways
	hops    map[netip.Addr]*nextHop
	sorted  []*nextHop // hops by address: which next hops lie inside a prefix
	inner   []*nextHop // those of sorted that lie inside pools
	dirty   []*entry   // changed since the last Drain, each once

	generation uint64 // of what Nodes and Devices are made of

	// The ways interned last: the routes of a node come in a row.
	latest      *ways // nil: forgotten
	latestPaths []Path

	setBuf []way // reused by searchWays
	keyBuf []byte
}

// verdict is a route without its prefix.
type verdict struct {
	hops   Hops
	kind   Kind
	reason Reason
}

// entry is all the table knows of one prefix.
type entry struct {
	prefix     netip.Prefix
	ways       *ways  // nil when BGP has no path
	prev, next *entry // in ways' list
	now        verdict
	told       verdict // as of the last Drain
	own        bool
	summed     bool
	pod        bool
	pooled     bool // in a pool and not refused as a whole: its next hops are nodes
	dirty      bool // in Table.dirty
}

// absent is the verdict of a prefix nobody has anything to say about.
var absent = verdict{kind: Unresolved, reason: ReasonNoPath}

// NewTable returns an empty table that asks r about next hops.
func NewTable(r Resolver) *Table {
	return &Table{
		resolver: r,
		pods:     map[netip.Prefix]string{},
		ways:     map[string]*ways{},
		hops:     map[netip.Addr]*nextHop{},
	}
}

// SetPools replaces the pools. Routes are decided again when they differ.
func (t *Table) SetPools(pools []Pool) {
	pools = slices.Clone(pools)
	for i := range pools {
		pools[i].Prefix = pools[i].Prefix.Masked()
	}
	pools = slices.DeleteFunc(pools, func(p Pool) bool { return !p.Prefix.IsValid() })
	slices.SortStableFunc(pools, func(a, b Pool) int {
		return cmp.Or(cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()), a.Prefix.Addr().Compare(b.Prefix.Addr()))
	})
	if slices.Equal(pools, t.pools) {
		return
	}
	t.pools = pools
	for _, w := range t.ways {
		w.verdicts = nil
	}
	t.classify()
	t.redecideAll()
}

// SetOwn replaces the set of this node's confirmed blocks: each becomes a
// blackhole route, and nobody else's route inside one is installed.
func (t *Table) SetOwn(blocks []netip.Prefix) {
	blocks = normalize(blocks)
	if slices.Equal(blocks, t.own) {
		return
	}
	for _, p := range t.own {
		t.entries.get(p).own = false
	}
	t.own = blocks
	for _, p := range blocks {
		t.entry(p).own = true
	}
	t.redecideAll()
}

// SetAggregates replaces the set of aggregates that this node announces: each
// becomes a blackhole route, so that a packet for a part of it that nobody has
// does not go back to where it came from. Others' routes inside are installed.
func (t *Table) SetAggregates(prefixes []netip.Prefix) {
	prefixes = normalize(prefixes)
	for _, p := range t.summed {
		e := t.entries.get(p)
		e.summed = slices.Contains(prefixes, p)
		t.redecide(e)
	}
	t.summed = prefixes
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
	t.pods[addr] = dev
	e := t.entry(addr)
	e.pod = true
	t.redecide(e)
}

// DeletePod undoes [Table.SetPod]; an unknown address is no error.
func (t *Table) DeletePod(addr netip.Prefix) {
	addr = addr.Masked()
	if _, ok := t.pods[addr]; !ok {
		return
	}
	delete(t.pods, addr)
	e := t.entries.get(addr)
	e.pod = false
	t.redecide(e)
}

// SetPermitted replaces the bounds of learned routes.
func (t *Table) SetPermitted(p Permit) {
	p = p.clone()
	p.Prefixes, p.NodeSubnets = normalize(p.Prefixes), normalize(p.NodeSubnets)
	p.Peers, p.PoolPeers = normalizeAddrs(p.Peers), normalizeAddrs(p.PoolPeers)
	if p.equal(t.permit) {
		return
	}
	old := t.permit
	t.permit = p
	t.classify()
	for _, a := range p.Peers {
		t.hold(a)
	}
	for _, a := range old.Peers {
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
	t.link(w, e)
	t.redecide(e)
}

// NextHopsChanged asks the resolver again about those of the addresses that
// are next hops or peers here, and decides the routes of those whose answer
// changed.
func (t *Table) NextHopsChanged(addrs []netip.Addr) {
	for _, a := range addrs {
		if hop, ok := t.hops[a.Unmap()]; ok {
			t.resolve(hop)
		}
	}
}

// AllNextHopsChanged is [Table.NextHopsChanged] for every known address.
func (t *Table) AllNextHopsChanged() {
	for _, hop := range t.sorted {
		t.resolve(hop)
	}
}

// NextHops yields, in address order, every address whose reachability matters:
// BGP next hops and peers. The table must not be changed meanwhile.
func (t *Table) NextHops() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for _, hop := range t.sorted {
			if hop.addr.IsValid() && !yield(hop.addr) {
				return
			}
		}
	}
}

// entry returns the entry of a prefix, new and absent when there is none.
func (t *Table) entry(prefix netip.Prefix) *entry {
	e := t.entries.get(prefix)
	if e == nil {
		e = &entry{prefix: prefix, now: absent, told: absent}
		t.entries.put(e)
		t.touch(e) // so that Drain forgets it should nothing come of it
	}
	return e
}

// redecide brings one entry's verdict up to date.
func (t *Table) redecide(e *entry) {
	now, pooled := t.decide(e)
	t.countPooled(e, pooled)
	if now == e.now {
		return
	}
	e.now = now
	t.touch(e)
	t.settleInside(e.prefix)
}

// redecideAll is for changes of pools, own blocks and permissions, which are
// rare and concern any prefix.
func (t *Table) redecideAll() {
	for e := range t.entries.all {
		t.redecide(e)
	}
	for _, hop := range t.inner {
		t.settle(hop)
	}
}

// normalize returns the valid prefixes, masked, sorted, each once.
func normalize(prefixes []netip.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(prefixes))
	for _, p := range prefixes {
		if p = p.Masked(); p.IsValid() {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, comparePrefix)
	return slices.Compact(out)
}

// normalizeAddrs returns the addresses, IPv4-mapped ones as IPv4, sorted, each
// once. It changes the slice.
func normalizeAddrs(addrs []netip.Addr) []netip.Addr {
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// comparePrefix orders by family and address, then the shorter first.
func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
