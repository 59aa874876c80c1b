package fib

import (
	"net/netip"
	"slices"
	"time"

	"onlink/rib"
)

// tracker holds the desired route and the kernel's for every prefix, and queues
// the entries in which they differ. It does no I/O.
type tracker struct {
	entries store
	hops    targets // the targets of routes
	failing failures
	dirty   []*entry          // queued entries, each once
	spare   []*entry          // dirty's other buffer
	strays  map[routeKey]bool // routes of ours under keys we do not write; true: to be removed
	stats   Stats

	reading uint32 // number of the latest reading of the kernel
	flush   uint32 // number of the latest flush
	suspect bool   // the known state of the kernel may be wrong: read it before writing
	sweep   bool   // routes of a previous run are not kept
}

func (t *tracker) init() {
	t.entries.init()
	t.hops.init()
	t.failing.entries = make(map[*entry]struct{})
	t.strays = make(map[routeKey]bool)
}

// set makes a route of p with these hops desired. p is valid and masked.
func (t *tracker) set(p netip.Prefix, kind rib.Kind, hops rib.Hops) {
	e := t.entries.get(p)
	if e == nil {
		e = t.entries.put(p)
	}
	t.claim(e)
	key := setKey{hops: hops, kind: kind, v6: p.Addr().Is6()}
	if e.want != nil && e.want.key == key {
		if e.fail != nil && e.want.target() != e.have && e.fail.pending() {
			t.enqueue(e)
		}
		return
	}
	t.desire(e, t.hops.acquire(key))
}

// unset makes "no route" of p desired. p is masked.
func (t *tracker) unset(p netip.Prefix) {
	e := t.entries.get(p)
	if e == nil || e.want == nil && !e.stale {
		return
	}
	t.claim(e)
	t.desire(e, nil)
}

// claim adopts e if a previous run left it: from now on it follows its desired
// route.
func (t *tracker) claim(e *entry) {
	if e.stale {
		e.stale = false
		t.stats.Stale--
	}
}

// desire replaces e's desired hops and queues e if the kernel differs.
func (t *tracker) desire(e *entry, want *hopset) {
	old := e.want
	e.want = want
	if old != nil {
		if dev := old.link(); dev != nil {
			delete(dev.local, e)
		}
		t.hops.release(old)
	}
	if want != nil {
		if dev := want.link(); dev != nil {
			if dev.local == nil {
				dev.local = make(map[*entry]struct{})
			}
			dev.local[e] = struct{}{}
		}
	}
	t.failing.clear(e)
	t.settle(e)
}

// settle queues e if the kernel differs from the desired route, and drops it when
// it is neither desired nor in the kernel.
func (t *tracker) settle(e *entry) {
	if e.want == nil && e.have == nil && !e.queued {
		t.failing.clear(e)
		t.entries.remove(e)
		return
	}
	if !e.clean() {
		t.enqueue(e)
	}
}

// enqueue puts e into the next Apply.
func (t *tracker) enqueue(e *entry) {
	if e.queued {
		return
	}
	e.queued = true
	if len(t.dirty) == cap(t.dirty) {
		// append alone grows a long list by a quarter, and copies it each time.
		t.dirty = slices.Grow(t.dirty, len(t.dirty))
	}
	t.dirty = append(t.dirty, e)
}

// take empties the queue and returns its entries, for giveBack.
func (t *tracker) take() []*entry {
	work := t.dirty
	t.dirty, t.spare = t.spare[:0], work
	for _, e := range work {
		e.queued = false
	}
	return work
}

// giveBack ends the use of the list that take returned.
func (t *tracker) giveBack(work []*entry) {
	clear(work) // no stale pointers in the spare buffer
	t.spare = work[:0]
}

// setHave records the kernel's route for e.
func (t *tracker) setHave(e *entry, nh *nexthop) {
	e.doubt = false
	if e.have == nh {
		return
	}
	if e.have != nil {
		e.have.users--
		t.hops.idleCheck(e.have)
	}
	e.have = nh
	if nh != nil {
		nh.users++
	}
}

// allowSweep ends the time in which routes and objects of a previous run are
// kept.
func (t *tracker) allowSweep() {
	if t.sweep {
		return
	}
	t.sweep = true
	t.condemn()
	t.hops.sweep()
}

// condemn queues the removal of all undesired routes.
func (t *tracker) condemn() {
	if t.stats.Stale > 0 {
		for e := range t.entries.all() {
			if e.stale {
				e.stale = false
				t.enqueue(e)
			}
		}
		t.stats.Stale = 0
	}
	for k := range t.strays {
		t.strays[k] = true
	}
}

// retry queues the failed entries that are due.
func (t *tracker) retry(now time.Time) {
	for e := range t.failing.entries {
		if e.fail.due(now) {
			t.enqueue(e)
		}
	}
}

// linkChanged has the device looked up again, and the routes over it checked.
func (t *tracker) linkChanged(name string) {
	dev := t.hops.devs.byName[name]
	if dev == nil {
		return
	}
	dev.index = 0
	for e := range dev.local {
		e.doubt = true
		t.failing.clear(e)
		t.enqueue(e)
	}
	if dev.users == 0 {
		return
	}
	t.suspect = true
	for e := range t.failing.entries {
		if e.want.target().uses(dev) {
			t.enqueue(e)
		}
	}
}

// doubtReplaced has the owner of every key that is about to be overwritten
// queried first, or the kernel read when that is cheaper: another program may
// have taken the key since we wrote it, and then it is not ours to change.
func (t *tracker) doubtReplaced() {
	replaced := 0
	for _, e := range t.dirty {
		if e.replaces() && e.asked != t.flush {
			replaced++
		}
	}
	const lookupCost = 10 // of one look-up, in dumped routes (measured)
	if replaced > 16 && replaced*lookupCost > t.entries.len() {
		t.suspect = true
		return
	}
	if replaced == 0 {
		return
	}
	for _, e := range t.dirty {
		if e.replaces() && e.asked != t.flush {
			e.doubt = true
		}
	}
}
