package fib

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

// readAttempts bounds how often an interrupted or failed dump is repeated
// before what was not seen counts as missing, or the reading as failed.
const readAttempts = 4

// Resync reads what the kernel holds of our protocol, in both families,
// compares it with the desire, and repairs what differs. Unchanged routes
// cost neither a write nor an allocation. Routes that nobody desires are
// adopted and kept until [Table.AllowSweep]; after it they are removed, a
// newly found one with the next Apply or Resync.
func (t *Table) Resync(ctx context.Context) (Stats, error) {
	start := time.Now()
	if err := t.read(ctx); err != nil {
		return t.Stats(), err
	}
	t.readIn = t.flushes + 1 // the flush that follows
	for e := range t.failing {
		t.enqueue(e)
	}
	err := t.flush(ctx)
	t.stats.Resyncs++
	t.stats.LastResync = time.Since(start)
	return t.Stats(), err
}

// read brings what we believe of the kernel up to date.
func (t *Table) read(ctx context.Context) error {
	if err := t.kernelOpen(ctx); err != nil {
		return err
	}
	t.gen++
	drift := t.stats.Drift
	t.refreshDevices()
	var err error
	for range readAttempts {
		if err = ctx.Err(); err != nil {
			break
		}
		err = t.readOnce()
		if err == nil || refused(err) {
			break
		}
	}
	if err != nil && !errors.Is(err, errInterrupted) {
		t.suspect = true
		return err
	}
	t.missing()
	t.suspect = false
	t.readIn = t.flushes
	if t.stats.Drift != drift {
		t.log.Info("kernel routes had drifted", "routes", t.stats.Drift-drift)
	}
	return nil
}

// refused reports whether the kernel itself answered with an error that a
// repetition does not change.
func refused(err error) bool {
	return errors.As(err, new(*rtnl.Error)) && !errors.Is(err, unix.EINTR) &&
		!errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EBUSY)
}

// readOnce dumps objects, then routes. An interrupted dump has shown true
// things, so what it marked stays marked.
func (t *Table) readOnce() error {
	var interrupted error
	if t.hasNH {
		err := t.kernel.nexthops(t.seeNexthop)
		if err != nil && !errors.Is(err, errInterrupted) {
			return err
		}
		interrupted = err
		if interrupted == nil {
			t.missingNexthops()
		}
	}
	return errors.Join(interrupted, t.kernel.routes(ours.Protocol, t.seeRoute))
}

// refreshDevices looks every device's index up again: a recreated one has a
// new index.
func (t *Table) refreshDevices() {
	clear(t.hops.byIndex)
	for _, d := range t.hops.devs {
		d.index = 0
		if i, err := t.linkIndex(d.name); err == nil {
			d.index = i
			t.hops.byIndex[i] = d
		}
	}
}

// seeRoute takes note of one route of ours.
func (t *Table) seeRoute(r *wireRoute) {
	if r.key != t.key(r.key.prefix) {
		if _, known := t.strays[r.key]; !known {
			t.strays[r.key] = false
		}
		return
	}
	e := t.routes.get(r.key.prefix)
	if e == nil {
		e = t.routes.put(r.key.prefix)
		e.stale = true
		t.stats.Stale++
	}
	e.seen = t.gen
	had := e.have
	if had != nil && t.shows(had, r) {
		e.doubt = false
		return
	}
	t.setHave(e, t.identify(r))
	if had != nil && e.have != had && e.want.target() == had {
		t.stats.Drift++
	}
	if e.clean() {
		t.clearFailure(e)
	}
	t.settle(e)
}

// missing finds the routes the kernel should have shown and did not.
func (t *Table) missing() {
	for e := range t.routes.all() {
		if e.seen == t.gen || e.have == nil && !e.doubt {
			continue
		}
		if e.have != nil && e.want.target() == e.have {
			t.stats.Drift++
		}
		t.setHave(e, nil)
		t.claim(e)
		t.settle(e)
	}
}

// shows reports whether r points at nh, without an allocation.
func (t *Table) shows(nh *nexthop, r *wireRoute) bool {
	if r.odd || nh.takesSource() && !t.sourceFits(r) {
		return false
	}
	switch nh.kind {
	case blackholeHop:
		return r.kind == unix.RTN_BLACKHOLE
	case opaqueHop:
		return nh.id != 0 && nh.id == r.nhid
	case linkHop:
		return r.kind == unix.RTN_UNICAST && r.nhid == 0 && r.count == 1 && nh.is(r.hop[0])
	case gatewayHop, groupHop:
	}
	if r.kind != unix.RTN_UNICAST {
		return false
	}
	if t.objects {
		return r.nhid != 0 && r.nhid == nh.id
	}
	return r.nhid == 0 && nh.has(r)
}

// sourceFits reports whether r has the configured source address.
func (t *Table) sourceFits(r *wireRoute) bool {
	want := t.cfg.Source4
	if r.key.prefix.Addr().Is6() {
		want = t.cfg.Source6
	}
	return r.source == want
}

// is reports whether h is what the single nexthop nh is written as.
func (nh *nexthop) is(h wireHop) bool {
	return nh.dev.index == h.oif && nh.dev.index != 0 && nh.key.via == h.via && h.weight == 0 && nh.key.onlink == h.onlink
}

// has reports whether r has exactly the gateways of nh. The kernel may list
// the members of an IPv6 route in another order.
func (nh *nexthop) has(r *wireRoute) bool {
	if nh.kind == gatewayHop {
		return r.count == 1 && nh.is(r.hop[0])
	}
	if r.count != len(nh.members) {
		return false
	}
	for _, m := range nh.members {
		found := false
		for _, h := range r.hops() {
			found = found || m.is(h)
		}
		if !found {
			return false
		}
	}
	return true
}

// identify returns the nexthop r points at; unknown if there is none we
// would write.
func (t *Table) identify(r *wireRoute) *nexthop {
	switch {
	case r.kind == unix.RTN_BLACKHOLE && !r.odd:
		return t.hops.blackhole
	case r.nhid != 0:
		if nh := t.hops.byID[r.nhid]; nh != nil && t.shows(nh, r) {
			return nh
		}
		return t.unknown
	case r.kind != unix.RTN_UNICAST || r.count == 0 || r.count > len(r.hop):
		return t.unknown
	}
	nh := t.identifyPlain(r)
	if nh != nil && t.shows(nh, r) {
		return nh
	}
	return t.unknown
}

// identifyPlain finds the nexthop with r's gateways, nil if a device has no
// name any more.
func (t *Table) identifyPlain(r *wireRoute) *nexthop {
	var gk groupKey
	v6 := r.key.prefix.Addr().Is6()
	for i, h := range r.hops() {
		k := hopKey{via: h.via, onlink: h.onlink, v6: v6, link: r.count == 1 && !h.via.IsValid()}
		if h.via.IsValid() {
			k.v6 = h.via.Is6()
		}
		if gk[i] = t.internIndex(k, h.oif); gk[i] == nil {
			return nil
		}
	}
	if r.count == 1 {
		return gk[0]
	}
	return t.hops.internGroup(gk)
}

// internIndex is targets.intern for a device known by its index; nil if the
// index has no name.
func (t *Table) internIndex(k hopKey, index uint32) *nexthop {
	d := t.hops.byIndex[index]
	if d == nil {
		name, err := t.kernel.linkName(index)
		if err != nil {
			return nil
		}
		d = t.hops.device(name)
		d.index = index
		t.hops.byIndex[index] = d
	}
	k.dev = d.name
	nh := t.hops.intern(k)
	t.hops.idleCheck(nh)
	return nh
}
