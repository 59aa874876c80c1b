package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// recoveredEpoch is the epoch of a block that is known only from the pods in
// it: below every epoch a registry has given, so that whoever has a real claim
// wins, and the registry's own entry for this node replaces it.
const recoveredEpoch = 1

// Running is a pod's interface as the kernel shows it.
type Running struct {
	// Assignment has the interface's addresses, of several in one family the most
	// credible first; none means that the kernel does
	// not show them. Pools, Blocks, Assigned and Sticky are not read.
	Assignment
	// DropRoutes are the kernel's drop routes around the addresses, the longest
	// first: blocks of a former run, whose size may not be the pool's any more.
	DropRoutes []netip.Prefix
}

// Recovery is the result of [Allocator.Recover].
type Recovery struct {
	Entered []Assignment // entered or changed, as they are now
	// Displaced are attachments that the file gives an address of a running
	// pod, as the file had them: they have lost it, or are gone.
	Displaced []Assignment
	Kept      []Quarantine // could not be recorded: out of use while the pod runs
	Refused   []error      // pods of which nothing is known that could be kept
}

// Recover makes the file agree with all running pods: it was lost, or an older
// copy was restored. The kernel takes precedence over the file. An address that
// the file gives to an attachment that does not have it any more becomes the
// running pod's; an address of two running pods, or one that does not fit a
// record, is quarantined. A block that is known from its pods alone is recorded
// too; the next assert sends it to the registry.
//
// It is called between [New] and [Allocator.Run].
func (a *Allocator) Recover(pods []Running) (Recovery, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := recovering{m: a.memory, node: a.cfg.Node, runs: map[Handle]*Running{}, taken: map[netip.Addr]Handle{}, displaced: map[Handle][]netip.Addr{}}
	for i := range pods {
		r.runs[pods[i].Handle] = &pods[i]
	}
	for i := range pods {
		r.take(&pods[i])
	}
	todo := r.changes()
	if len(todo) == 0 && len(r.out.Kept) == 0 {
		return r.out, nil
	}
	if len(todo) > 0 {
		if err := a.cfg.Store.commit(todo); err != nil {
			return Recovery{}, fmt.Errorf("recover assignments: %w", err)
		}
	}
	a.quarantined.list = append(a.quarantined.list, r.out.Kept...)
	for _, b := range r.blocks {
		a.doubts[b] = guessed
	}
	if err := a.reloadLocked(); err != nil {
		return Recovery{}, fmt.Errorf("recover assignments: %w", err)
	}
	return r.out, nil
}

// recovering is one call of Recover.
type recovering struct {
	m         *memory
	node      string
	runs      map[Handle]*Running
	taken     map[netip.Addr]Handle // by a pod seen before
	blocks    []netip.Prefix        // to be entered
	displaced map[Handle][]netip.Addr
	out       Recovery
	drops     []change // of assignments that the file has
	saves     []change // after all drops: an address is free before it is another's
}

// take decides about one pod.
func (r *recovering) take(p *Running) {
	known := r.m.stock.byHandle[p.Handle]
	if known != nil && slices.Equal(known.Addresses, p.Addresses) {
		r.claim(p.Handle, p.Addresses)
		return
	}
	if err := p.Handle.validate(); err != nil {
		r.keep(p, p.Addresses, "its container ID or interface name cannot be stored")
		return
	}
	var have []netip.Addr
	for _, addr := range p.Addresses {
		if why := r.bars(p.Handle, addr, have); why != "" {
			r.keep(p, []netip.Addr{addr}, why)
			continue
		}
		have = append(have, addr)
	}
	if known != nil {
		have = append(have, r.unseen(known, have)...)
	}
	slices.SortFunc(have, netip.Addr.Compare) // as in the file
	switch {
	case len(have) > 0:
		r.claim(p.Handle, have)
		r.enter(p, known, have)
	case known != nil:
		r.displace(known, known.Addresses)
	case len(p.Addresses) == 0:
		r.out.Refused = append(r.out.Refused, fmt.Errorf("recover pod %s/%s (%v): %w: it has neither a route nor an address on its interface: delete the pod",
			p.Namespace, p.Pod, p.Handle, ErrInvalidRequest))
	}
}

// bars returns why an address of a running pod cannot be recorded as its own, ""
// when it can: have are those that it has already.
func (r *recovering) bars(h Handle, addr netip.Addr, have []netip.Addr) string {
	if o, ok := r.taken[addr]; ok {
		return fmt.Sprintf("the running pod %v has it too: delete one of the two", o)
	}
	if slices.ContainsFunc(have, func(b netip.Addr) bool { return b.Is4() == addr.Is4() }) {
		return "the pod has another address of the same family: delete the pod"
	}
	e := r.m.stock.owner(addr)
	if e == nil || e.Handle == h {
		return ""
	}
	if o := r.runs[e.Handle]; o != nil && slices.Contains(o.Addresses, addr) {
		return fmt.Sprintf("the running pod %s/%s (%v) has it too: delete one of the two", e.Namespace, e.Pod, e.Handle)
	}
	return ""
}

// unseen returns the addresses that the file gives to a running pod in a family
// in which the kernel has none: the route may have been removed by hand.
func (r *recovering) unseen(known *entry, have []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, addr := range known.Addresses {
		_, lost := r.taken[addr]
		for h, o := range r.runs {
			lost = lost || h != known.Handle && slices.Contains(o.Addresses, addr)
		}
		if !lost && !slices.ContainsFunc(have, func(b netip.Addr) bool { return b.Is4() == addr.Is4() }) {
			out = append(out, addr)
		}
	}
	return out
}

// claim records the owner of addresses, and takes them from the attachments that
// do not have them any more.
func (r *recovering) claim(h Handle, addrs []netip.Addr) {
	for _, addr := range addrs {
		r.taken[addr] = h
		if e := r.m.stock.owner(addr); e != nil && e.Handle != h {
			r.displace(e, []netip.Addr{addr})
		}
	}
}

// displace takes addresses from an attachment in the file.
func (r *recovering) displace(e *entry, addrs []netip.Addr) {
	if r.displaced[e.Handle] == nil {
		r.out.Displaced = append(r.out.Displaced, e.clone())
	}
	r.displaced[e.Handle] = append(r.displaced[e.Handle], addrs...)
}

// keep quarantines addresses of a running pod.
func (r *recovering) keep(p *Running, addrs []netip.Addr, why string) {
	for _, addr := range addrs {
		r.out.Kept = append(r.out.Kept, Quarantine{
			Address: addr, Why: why, Handle: p.Handle, Namespace: p.Namespace, Pod: p.Pod, HostDevice: p.HostDevice,
		})
	}
}

// enter records the addresses of a pod.
func (r *recovering) enter(p *Running, known *entry, addrs []netip.Addr) {
	as := p.Assignment.clone()
	as.Assigned = time.Now()
	if known != nil { // the file has more about the pod than the kernel
		if slices.Equal(known.Addresses, addrs) {
			return
		}
		as = known.clone()
		r.drops = append(r.drops, dropAssignment(known.Assignment, time.Now()))
	}
	as.Addresses, as.Pools, as.Blocks = addrs, nil, nil
	for _, addr := range addrs {
		name := "" // of a pool that is not in the configuration any more
		if pool := r.m.stock.poolOf(addr); pool != nil {
			name = pool.Name
			r.enterBlock(p, addr, pool)
		}
		as.Pools = append(as.Pools, name)
	}
	r.saves = append(r.saves, r.m.workloads.recovered(&as)...)
	r.saves = append(r.saves, saveAssignment(as))
	r.out.Entered = append(r.out.Entered, as)
}

// enterBlock enters the block around an address that lies in no held one: as
// the kernel has it, or else as the pool has them.
func (r *recovering) enterBlock(p *Running, addr netip.Addr, pool *Pool) {
	if r.m.stock.blockOf(addr) != nil {
		return
	}
	b := pool.blockOf(addr)
	if i := slices.IndexFunc(p.DropRoutes, func(k netip.Prefix) bool { return k.Contains(addr) && pool.holds(k) }); i >= 0 {
		b = p.DropRoutes[i]
	}
	overlaps := func(o netip.Prefix) bool { return o.Overlaps(b) }
	if slices.ContainsFunc(r.blocks, overlaps) || slices.ContainsFunc(r.m.stock.order, func(h *held) bool { return overlaps(h.CIDR) }) {
		return
	}
	r.blocks = append(r.blocks, b)
	r.saves = append(r.saves, saveBlock(heldBlock{Block: Block{CIDR: b, Pool: pool.Name, Node: r.node, Epoch: recoveredEpoch}}))
}

// changes returns the writes, in order.
func (r *recovering) changes() []change {
	now := time.Now()
	out := r.drops
	var saves []change
	anew := func(h Handle) bool {
		return slices.ContainsFunc(r.out.Entered, func(as Assignment) bool { return as.Handle == h })
	}
	for h, gone := range r.displaced {
		if anew(h) {
			continue
		}
		e := r.m.stock.byHandle[h]
		out = append(out, dropAssignment(e.Assignment, now))
		left := e.clone()
		left.Addresses, left.Pools, left.Sticky = nil, nil, ""
		for i, addr := range e.Addresses {
			if !slices.Contains(gone, addr) {
				left.Addresses, left.Pools = append(left.Addresses, addr), append(left.Pools, e.Pools[i])
			}
		}
		if len(left.Addresses) > 0 {
			saves = append(saves, saveAssignment(left))
		}
	}
	r.out.Displaced = slices.DeleteFunc(r.out.Displaced, func(as Assignment) bool { return anew(as.Handle) })
	return slices.Concat(out, saves, r.saves)
}
