// Package fib makes the kernel's routes of protocol 179 equal the decided
// ones ([rib.Route]).
//
// A [Table] holds what is desired and what the kernel is known to hold. Set
// and Delete change the desire and do no I/O; Apply writes what differs;
// Resync reads the kernel back, repairs what drifted, and finds what a
// previous run left. Routes point at kernel nexthop objects (ip-nexthop(8)),
// one per next hop and device, so that a node that moves or dies is one
// message whatever the number of its blocks; kernels without them (before
// 5.3) get plain gateways.
//
// It refuses to touch a route of another protocol: a new route is created
// with NLM_F_EXCL, so a key somebody else holds is reported ([ErrForeign]),
// never overwritten. Before one of our routes is overwritten the kernel is
// asked whether it still is ours; rtnetlink has no compare-and-swap, so the
// microseconds between the question and the write remain.
//
// A Table serves one goroutine and has no lock. Open and every later call
// must come from the network namespace the Table works on.
package fib

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"onlink/rib"
)

// defaultMetric6 is what the kernel makes of an IPv6 route's metric 0.
const defaultMetric6 = 1024

// Config says where and how a Table writes. The zero value is valid.
type Config struct {
	Table   uint32     // routing table; 0 means main (254)
	Metric  uint32     // route metric; 0 means the kernel's default: IPv4 0, IPv6 1024
	Source4 netip.Addr // preferred source address (RTA_PREFSRC) of IPv4 unicast routes; zero: the kernel chooses
	Source6 netip.Addr // the same for IPv6
	// NoNexthopObjects makes the Table use plain gateways although the kernel
	// has nexthop objects.
	NoNexthopObjects bool
	Log              *slog.Logger // nil: nothing is logged
}

// Table is the writer of one kernel routing table.
type Table struct {
	cfg     Config
	log     *slog.Logger
	kernel  kernel
	connect func(Config) (kernel, error)
	objects bool // routes refer to nexthop objects
	hasNH   bool // the kernel has nexthop objects

	routes  store
	dirty   []*entry // queued entries, each once
	spare   []*entry // dirty's other buffer
	failing map[*entry]struct{}
	strays  map[routeKey]bool // routes of ours under keys we do not write; true: to be removed

	hops targets // what routes point at

	gen     uint32 // number of the latest reading of the kernel
	suspect bool   // what we know of the kernel may be wrong: read it before writing
	sweep   bool   // AllowSweep was called
	first   bool   // in the first round of a flush
	flushes uint32 // number of the current flush
	readIn  uint32 // flush whose beliefs were read from the kernel
	reqs    []request
	taken   []*entry // entries refused with EEXIST in this round
	errs    []error  // per-prefix errors of this Apply
	stats   Stats
	avoid   []string // devices that no route may use
	unknown *nexthop // stands for a route of ours unlike any we write
}

// entry is one prefix: what is desired, and what the kernel holds.
type entry struct {
	prefix netip.Prefix
	want   *hopset  // nil: no route
	have   *nexthop // nil: the kernel holds none of ours
	fail   *failure // nil: the last write worked
	seen   uint32   // reading of the kernel that showed it
	asked  uint32   // flush in which the kernel was asked about it
	queued bool     // in Table.dirty
	stale  bool     // a previous run's; removed once the sweep is allowed
	doubt  bool     // the kernel may have dropped it: ask before writing
}

// New returns a Table that is not yet open: Set and Delete work, the kernel
// is not touched.
func New(cfg Config) *Table {
	if cfg.Table == 0 {
		cfg.Table = unix.RT_TABLE_MAIN
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	t := &Table{
		cfg:     cfg,
		log:     cfg.Log,
		failing: make(map[*entry]struct{}),
		strays:  make(map[routeKey]bool),
		unknown: &nexthop{kind: opaqueHop},
		connect: func(c Config) (kernel, error) { return openNetlink(c) },
	}
	t.routes.init()
	t.hops.init()
	return t
}

// Open opens the socket and finds out whether the kernel has nexthop
// objects. The first Apply or Resync after it reads the kernel's state.
func (t *Table) Open() error {
	k, err := t.connect(t.cfg)
	if err != nil {
		return err
	}
	err = k.nexthops(func(*wireNexthop) {})
	t.hasNH = err == nil || errors.Is(err, errInterrupted)
	if err != nil && !t.hasNH && !unsupported(err) {
		return errors.Join(err, k.close())
	}
	t.kernel = k
	t.objects = t.hasNH && !t.cfg.NoNexthopObjects
	t.suspect = true
	return nil
}

// unsupported reports whether a kernel without nexthop objects says err.
func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)
}

// UsesNexthopObjects reports whether routes refer to nexthop objects.
func (t *Table) UsesNexthopObjects() bool { return t.objects }

// Close closes the socket; the routes stay in the kernel.
func (t *Table) Close() error {
	if t.kernel == nil {
		return nil
	}
	err := t.kernel.close()
	t.kernel = nil
	return err
}

// Set makes r the desired route of its prefix; an Unresolved r means Delete.
// The latest Set wins; nothing is written before Apply. A prefix that is not
// valid is dropped with a log line.
func (t *Table) Set(r rib.Route) {
	if r.Kind == rib.Unresolved {
		t.Delete(r.Prefix)
		return
	}
	p := r.Prefix.Masked()
	if !p.IsValid() || p.Addr().Is4In6() {
		t.log.Warn("route with an invalid prefix is not installed", "prefix", r.Prefix)
		return
	}
	e := t.routes.get(p)
	if e == nil {
		e = t.routes.put(p)
	}
	t.claim(e)
	key := setKey{hops: r.Hops, kind: r.Kind, v6: p.Addr().Is6()}
	if e.want != nil && e.want.key == key {
		if e.fail != nil && e.want.target() != e.have && errors.Is(e.fail.err, ErrPending) {
			t.enqueue(e)
		}
		return
	}
	t.desire(e, t.hops.acquire(key))
}

// Delete makes "no route" the desired state of p.
func (t *Table) Delete(p netip.Prefix) {
	e := t.routes.get(p.Masked())
	if e == nil || e.want == nil && !e.stale {
		return
	}
	t.claim(e)
	t.desire(e, nil)
}

// claim makes e, if a previous run left it, ours to decide on.
func (t *Table) claim(e *entry) {
	if e.stale {
		e.stale = false
		t.stats.Stale--
	}
}

// desire replaces what e wants and queues it if the kernel differs.
func (t *Table) desire(e *entry, want *hopset) {
	old := e.want
	e.want = want
	if old != nil {
		old.watch(e, false)
		t.hops.release(old)
	}
	if want != nil {
		want.watch(e, true)
	}
	t.clearFailure(e)
	t.settle(e)
}

// settle queues e if the kernel differs from its desire, and forgets it when
// neither side knows it any more.
func (t *Table) settle(e *entry) {
	if e.want == nil && e.have == nil && !e.queued {
		t.clearFailure(e)
		t.routes.remove(e)
		return
	}
	if !e.clean() {
		t.enqueue(e)
	}
}

// clean reports whether the kernel is known to hold what e wants.
func (e *entry) clean() bool {
	if e.stale {
		return true
	}
	return !e.doubt && e.want.target() == e.have && (e.want == nil || e.want.err == nil)
}

// enqueue puts e into the next Apply.
func (t *Table) enqueue(e *entry) {
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

// setHave records what the kernel holds for e.
func (t *Table) setHave(e *entry, nh *nexthop) {
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

// key returns the kernel's key of p.
func (t *Table) key(p netip.Prefix) routeKey {
	k := routeKey{prefix: p, metric: t.cfg.Metric}
	if k.metric == 0 && p.Addr().Is6() {
		k.metric = defaultMetric6
	}
	return k
}

// AllowSweep ends the time in which routes and objects of a previous run are
// kept: from now on what the kernel holds of our protocol and is not desired
// goes. A route that a Resync finds for the first time goes with the Apply or
// Resync after it, so that a desire queued before that dump can save it.
func (t *Table) AllowSweep() {
	if t.sweep {
		return
	}
	t.sweep = true
	t.condemn()
	t.hops.sweep()
}

// condemn queues the removal of everything that is not desired.
func (t *Table) condemn() {
	if t.stats.Stale > 0 {
		for e := range t.routes.all() {
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

// LinkChanged tells that the named devices appeared, vanished, went up or
// down, or were renamed: their kernel indexes are looked up again, and routes
// over them, which the kernel may have dropped, are checked by the next Apply.
func (t *Table) LinkChanged(names ...string) {
	for _, name := range names {
		dev := t.hops.devs[name]
		if dev == nil {
			continue
		}
		dev.index = 0
		for e := range dev.local {
			e.doubt = true
			t.clearFailure(e)
			t.enqueue(e)
		}
		if dev.users == 0 {
			continue
		}
		t.suspect = true
		for e := range t.failing {
			if e.want.target().uses(dev) {
				t.enqueue(e)
			}
		}
	}
}

// Avoid names the devices that no route is written over from now on: somebody
// else's that have the name of one of ours. What should go over them fails.
func (t *Table) Avoid(names []string) {
	if slices.Equal(t.avoid, names) {
		return
	}
	changed := append(slices.Clone(t.avoid), names...)
	t.avoid = slices.Clone(names)
	t.LinkChanged(changed...)
}

// NextRetry returns when the next failed route is due for another attempt by
// Apply; the zero Time means that none is.
func (t *Table) NextRetry() time.Time {
	var next time.Time
	for e := range t.failing {
		if at := e.fail.retryAt; !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// kernelOpen returns the open kernel, or why there is none.
func (t *Table) kernelOpen(ctx context.Context) error {
	if t.kernel == nil {
		return ErrClosed
	}
	return ctx.Err()
}
