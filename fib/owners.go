package fib

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

// askDoubtful queries the routes that the kernel may have dropped.
func (r *reader) askDoubtful(work []*entry) error {
	t := r.routes
	for _, e := range work {
		if !e.doubt {
			continue
		}
		w, ok, err := r.ask(e)
		if err != nil {
			return err
		}
		e.asked = t.flush
		if !ok || w.protocol != ours.Protocol {
			t.setHave(e, nil) // the kernel refuses the add if the route exists after all
			continue
		}
		t.setHave(e, r.match.route(&w))
		if e.clean() {
			t.failing.clear(e)
		}
	}
	return nil
}

// ask returns the route that holds e's key. ok is false if the look-up by address
// does not decide that, because it returned another route.
func (r *reader) ask(e *entry) (w wireRoute, ok bool, err error) {
	err = r.kernel.lookup(e.prefix, &w)
	if errors.As(err, new(*rtnl.Error)) || errors.Is(err, unix.ENETUNREACH) {
		return w, false, nil
	}
	return w, err == nil && w.key == r.cfg.key(e.prefix) && w.table == r.cfg.Table, err
}

// askOwners queries the owners of the entries' keys, which were refused with
// EEXIST. Routes of ours are queued to be replaced, others are reported.
func (r *reader) askOwners(taken []*entry) error {
	const dumpFrom = 64 // so many look-ups cost as much as a dump
	var open map[routeKey]*entry
	for _, e := range taken {
		if len(taken) < dumpFrom {
			w, ok, err := r.ask(e)
			if err != nil {
				return err
			}
			if ok {
				r.owned(e, &w)
				continue
			}
		}
		if open == nil {
			open = make(map[routeKey]*entry)
		}
		open[r.cfg.key(e.prefix)] = e
	}
	if open == nil {
		return nil
	}
	err := r.kernel.routes(0, func(w *wireRoute) {
		if e := open[w.key]; e != nil {
			delete(open, w.key)
			r.owned(e, w)
		}
	})
	if err != nil && !errors.Is(err, errInterrupted) {
		return err
	}
	for _, e := range open {
		r.routes.enqueue(e) // the owner was removed meanwhile
	}
	return nil
}

// owned records that w holds e's key: it adopts a route of ours, and reports a
// foreign one.
func (r *reader) owned(e *entry, w *wireRoute) {
	t := r.routes
	e.asked = t.flush
	if w.protocol == ours.Protocol {
		t.setHave(e, r.match.route(w))
		if e.clean() {
			t.failing.clear(e)
		} else {
			t.enqueue(e)
		}
		return
	}
	owner := ProtocolName(w.protocol)
	t.failing.addOwned(e, fmt.Errorf("install %v: protocol %s: %w", e.prefix, owner, ErrForeign), owner)
}
