package fib

import (
	"context"
	"errors"
	"log/slog"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

// readAttempts bounds the repetitions of an interrupted or failed dump; after
// them the routes that it did not show count as missing, or the reading as
// failed.
const readAttempts = 4

// reader updates the known state of the kernel: it reads all of our routes and
// objects, or queries single keys.
type reader struct {
	kernel  kernel // nil before Open and after Close
	cfg     *Config
	log     *slog.Logger
	routes  *tracker
	match   matcher
	hasNH   bool   // the kernel has nexthop objects
	current uint32 // the flush whose known state was read from the kernel
}

// read reads all of our routes and objects, in both families.
func (r *reader) read(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t := r.routes
	t.reading++
	drift := t.stats.Drift
	t.hops.devs.refresh()
	var err error
	for range readAttempts {
		if err = ctx.Err(); err != nil {
			break
		}
		err = r.readOnce()
		if err == nil || refused(err) {
			break
		}
	}
	if err != nil && !errors.Is(err, errInterrupted) {
		t.suspect = true
		return err
	}
	r.missing()
	t.suspect = false
	r.current = t.flush
	if t.stats.Drift != drift {
		r.log.Info("kernel routes had drifted", "routes", t.stats.Drift-drift)
	}
	return nil
}

// refused reports whether the kernel itself answered with an error that a
// repetition does not change.
func refused(err error) bool {
	return errors.As(err, new(*rtnl.Error)) && !errors.Is(err, unix.EINTR) &&
		!errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EBUSY)
}

// readOnce dumps objects, then routes. The routes in an interrupted dump exist,
// so they stay marked as seen.
func (r *reader) readOnce() error {
	var interrupted error
	if r.hasNH {
		err := r.kernel.nexthops(r.seeNexthop)
		if err != nil && !errors.Is(err, errInterrupted) {
			return err
		}
		interrupted = err
		if interrupted == nil {
			r.missingNexthops()
		}
	}
	return errors.Join(interrupted, r.kernel.routes(ours.Protocol, r.seeRoute))
}

// seeRoute records one route of ours.
func (r *reader) seeRoute(w *wireRoute) {
	t := r.routes
	if w.key != r.cfg.key(w.key.prefix) {
		if _, known := t.strays[w.key]; !known {
			t.strays[w.key] = false
		}
		return
	}
	e := t.entries.get(w.key.prefix)
	if e == nil {
		e = t.entries.put(w.key.prefix)
		e.stale = true
		t.stats.Stale++
	}
	e.seen = t.reading
	had := e.have
	if had != nil && r.match.shows(had, w) {
		e.doubt = false
		return
	}
	t.setHave(e, r.match.route(w))
	if had != nil && e.have != had && e.want.target() == had {
		t.stats.Drift++
	}
	if e.clean() {
		t.failing.clear(e)
	}
	t.settle(e)
}

// missing records the routes that the kernel should have shown and did not.
func (r *reader) missing() {
	t := r.routes
	for e := range t.entries.all() {
		if e.seen == t.reading || e.have == nil && !e.doubt {
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

// seeNexthop records one nexthop object in our range of IDs.
func (r *reader) seeNexthop(n *wireNexthop) {
	g := &r.routes.hops
	if n.protocol != ours.Protocol {
		if nh := g.byID[n.id]; nh != nil {
			g.unnumber(nh)
		}
		g.foreign[n.id] = true
		return
	}
	delete(g.foreign, n.id)
	nh := g.byID[n.id]
	if nh == nil {
		nh = r.adopt(n)
	}
	nh.seen = r.routes.reading
	nh.live = nh.isObject(n)
}

// adopt takes over an object that a previous run (or an operator) left: under the
// nexthop with its attributes if that has no object yet, else as an opaque one
// that only waits to be swept.
func (r *reader) adopt(n *wireNexthop) *nexthop {
	nh := r.match.object(n)
	if nh == nil || nh.id != 0 {
		nh = &nexthop{kind: opaqueHop}
	}
	nh.id = n.id
	nh.stale = nh.refs == 0 && nh.groups == 0 && !r.routes.sweep
	r.routes.hops.byID[n.id] = nh
	r.routes.hops.idleCheck(nh)
	return nh
}

// missingNexthops records the objects that the kernel lost, or holds differently,
// and queues the desired ones.
func (r *reader) missingNexthops() {
	g, reading := &r.routes.hops, r.routes.reading
	for id, nh := range g.byID {
		if nh.seen != reading {
			nh.live = false
			if nh.kind == opaqueHop || nh.refs == 0 && nh.groups == 0 {
				delete(g.byID, id)
				nh.id, nh.stale = 0, false
				g.idleCheck(nh)
				continue
			}
		}
		if nh.seen == reading && !nh.stale {
			g.idleCheck(nh) // one whose removal failed
		}
		if !nh.live && (nh.refs > 0 || nh.groups > 0) {
			g.broken = append(g.broken, nh)
		}
	}
}
