package fib

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	batchSize = 1024 // requests per write; a twentieth of the processor time less than with 256
	maxRounds = 4    // add refused, owner found, replaced: two rounds; a third for a race
)

// writer writes nexthop objects and routes, in batches, and records each outcome.
type writer struct {
	kernel kernel // nil before Open and after Close
	cfg    *Config
	routes *tracker
	reqs   []request // the batch
	taken  []*entry  // refused with EEXIST in this round
	first  bool      // in the first round of a flush
}

// add puts r into the batch and sends it when it is full.
func (w *writer) add(ctx context.Context, r request) error {
	w.reqs = append(w.reqs, r)
	if len(w.reqs) < batchSize {
		return nil
	}
	return w.send(ctx)
}

// send writes the batch and records each outcome.
func (w *writer) send(ctx context.Context) error {
	if len(w.reqs) == 0 {
		return nil
	}
	err := ctx.Err()
	if err == nil {
		err = w.kernel.write(w.reqs)
		if err == nil {
			for i := range w.reqs {
				w.outcome(&w.reqs[i])
			}
		}
	}
	clear(w.reqs)
	w.reqs = w.reqs[:0]
	return err
}

// outcome records the answer to one request.
func (w *writer) outcome(r *request) {
	if r.verb >= addNexthop {
		w.objectOutcome(r)
		return
	}
	t, e, errno := w.routes, r.entry, errnoOf(r.err)
	absent := errno == unix.ESRCH || errno == unix.ENOENT
	switch {
	case e == nil: // a stray; the next reading shows one that could not be removed
	case r.verb == deleteRoute && (errno == 0 || absent):
		t.setHave(e, nil)
		t.stats.Deleted++
		t.failing.clear(e)
		t.settle(e)
	case errno == 0:
		if r.verb == addRoute {
			t.stats.Added++
		} else {
			t.stats.Changed++
		}
		t.setHave(e, r.nh)
		t.failing.clear(e)
	case r.verb == addRoute && errno == unix.EEXIST:
		w.taken = append(w.taken, e)
	case r.verb == replaceRoute && absent:
		e.doubt = true // another program removed it: query, then add it
		t.enqueue(e)
	case r.id != 0 && errno == unix.EINVAL && w.first:
		t.suspect = true // perhaps the kernel dropped the object: read it again, once
		t.enqueue(e)
	case r.nh != nil && r.nh.kind == linkHop && (errno == unix.ENODEV || errno == unix.ENETDOWN):
		r.nh.forgetIndex()
		t.failing.add(e, ErrPending)
	case r.verb == deleteRoute:
		t.failing.add(e, fmt.Errorf("remove %v: %w", e.prefix, r.err))
	default:
		r.nh.forgetIndex()
		t.failing.add(e, fmt.Errorf("install %v: %w", e.prefix, r.err))
	}
}

// objectOutcome records the answer to the request of an object.
func (w *writer) objectOutcome(r *request) {
	t, nh, errno := w.routes, r.nh, errnoOf(r.err)
	switch r.verb {
	case addNexthop:
		switch errno {
		case 0:
			nh.live = true
			t.stats.Objects++
		case unix.EEXIST:
			t.hops.unnumber(nh)
		default:
			delete(t.hops.byID, nh.id)
			nh.id, nh.err = 0, r.err
			nh.forgetIndex()
		}
	case replaceNexthop:
		if errno == 0 {
			nh.live, nh.id = true, r.id
			t.hops.byID[r.id] = nh
			t.stats.Objects++
			return
		}
		nh.err = r.err
		nh.forgetIndex()
	case deleteNexthop:
		if errno == 0 || errno == unix.ENOENT || errno == unix.ESRCH {
			t.stats.ObjectsDeleted++
			t.hops.gone(nh)
			return
		}
		t.failing.report(fmt.Errorf("delete nexthop %v: %w", nh, r.err))
	default:
	}
}
