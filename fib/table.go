// Package fib makes the kernel's routes of protocol 179 equal the decided ones
// ([rib.Route]).
//
// A [Table] holds the desired routes and the known state of the kernel. Set and
// Delete change the desired routes and do no I/O; Apply writes the differences;
// Resync reads the kernel back, repairs drift, and adopts the routes of a
// previous run. Routes point at kernel nexthop objects (ip-nexthop(8)), one per
// next hop and device, so that a node that moves or dies is one message whatever
// the number of its blocks; kernels without them (before 5.3) get plain gateways.
//
// It refuses to touch a route of another protocol: a new route is created with
// NLM_F_EXCL, so a key that a foreign route holds is reported ([ErrForeign]),
// never overwritten. Before one of our routes is overwritten its owner is
// queried; rtnetlink has no compare-and-swap, so the microseconds between the
// query and the write remain.
//
// A Table serves one goroutine and has no lock. Open and every later call must
// come from the network namespace the Table works on.
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

// Table writes one kernel routing table: it accepts the desired routes, and has
// the kernel read and written in rounds until both are equal.
type Table struct {
	cfg     Config
	log     *slog.Logger
	kernel  kernel
	connect func(Config) (kernel, error)

	routes tracker
	reader reader
	writer writer
}

// New returns a Table that is not yet open: Set and Delete work, without a call
// to the kernel.
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
		connect: func(c Config) (kernel, error) { return openNetlink(c) },
	}
	t.routes.init()
	t.routes.failing.log = cfg.Log
	t.reader = reader{cfg: &t.cfg, log: cfg.Log, routes: &t.routes, match: matcher{
		hops: &t.routes.hops, source4: cfg.Source4, source6: cfg.Source6, unknown: &nexthop{kind: opaqueHop},
	}}
	t.writer = writer{cfg: &t.cfg, routes: &t.routes}
	return t
}

// Open opens the socket and detects whether the kernel has nexthop objects. The
// first Apply or Resync after it reads the kernel's state.
func (t *Table) Open() error {
	k, err := t.connect(t.cfg)
	if err != nil {
		return err
	}
	err = k.nexthops(func(*wireNexthop) {})
	hasNH := err == nil || errors.Is(err, errInterrupted)
	if err != nil && !hasNH && !unsupported(err) {
		return errors.Join(err, k.close())
	}
	t.use(k)
	t.reader.hasNH = hasNH
	t.routes.hops.objects = hasNH && !t.cfg.NoNexthopObjects
	t.routes.suspect = true
	return nil
}

// use makes k the kernel of all parts; nil is none.
func (t *Table) use(k kernel) {
	t.kernel, t.reader.kernel, t.writer.kernel, t.routes.hops.devs.kernel = k, k, k, k
}

// unsupported reports whether err is the answer of a kernel without nexthop
// objects.
func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)
}

// UsesNexthopObjects reports whether routes refer to nexthop objects.
func (t *Table) UsesNexthopObjects() bool { return t.routes.hops.objects }

// Close closes the socket; the routes stay in the kernel.
func (t *Table) Close() error {
	if t.kernel == nil {
		return nil
	}
	err := t.kernel.close()
	t.use(nil)
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
	t.routes.set(p, r.Kind, r.Hops)
}

// Delete makes "no route" the desired state of p.
func (t *Table) Delete(p netip.Prefix) { t.routes.unset(p.Masked()) }

// AllowSweep ends the time in which routes and objects of a previous run are
// kept: from now on the undesired routes and objects of our protocol are swept. A
// route that a Resync finds for the first time is swept by the Apply or Resync
// after it, so that a desired route queued before that dump can save it.
func (t *Table) AllowSweep() { t.routes.allowSweep() }

// LinkChanged reports that the named devices appeared, vanished, went up or down,
// or were renamed: their kernel indexes are looked up again, and the next Apply
// checks the routes over them, which the kernel may have dropped.
func (t *Table) LinkChanged(names ...string) {
	for _, name := range names {
		t.routes.linkChanged(name)
	}
}

// Avoid sets the devices over which no route is written from now on: foreign ones
// with the name of one of ours. Routes over them fail.
func (t *Table) Avoid(names []string) {
	devs := &t.routes.hops.devs
	if slices.Equal(devs.avoid, names) {
		return
	}
	changed := append(slices.Clone(devs.avoid), names...)
	devs.avoid = slices.Clone(names)
	t.LinkChanged(changed...)
}

// NextRetry returns the time at which Apply tries the next failed route again;
// the zero Time means that none is due.
func (t *Table) NextRetry() time.Time { return t.routes.failing.next() }

// Stats returns the counters.
func (t *Table) Stats() Stats {
	s := t.routes.stats
	s.Errors = t.routes.failing.refused
	s.Failing = len(t.routes.failing.entries)
	s.Desired = max(0, t.routes.entries.len()-s.Stale)
	s.Nexthops = len(t.routes.hops.byID)
	return s
}

// Failures returns the desired routes that could not be installed, by prefix.
// Pending pod routes are not among them.
func (t *Table) Failures() []Failure { return t.routes.failing.list() }

// Installed reports whether the kernel is known to hold p as it is desired. If
// not, the error is the reason: nil when p is not desired, [ErrQueued] before the
// next Apply, [ErrPending] for a pod whose device is not there yet, else that of
// [Table.Failures].
func (t *Table) Installed(p netip.Prefix) (bool, error) {
	e := t.routes.entries.get(p.Masked())
	switch {
	case e == nil || e.want == nil:
		return false, nil
	case e.fail != nil:
		return false, e.fail.err
	case e.queued || !e.clean():
		return false, ErrQueued
	}
	return true, nil
}

// kernelOpen returns the reason that no call to the kernel is possible; nil: the
// kernel is open.
func (t *Table) kernelOpen(ctx context.Context) error {
	if t.kernel == nil {
		return ErrClosed
	}
	return ctx.Err()
}
