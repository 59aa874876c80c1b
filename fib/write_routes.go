package fib

import (
	"context"
	"errors"
	"fmt"
)

// writeRoutes writes the desired routes, and then the removals.
func (w *writer) writeRoutes(ctx context.Context, work []*entry) error {
	for _, e := range work {
		if e.want != nil && !e.clean() {
			if err := w.writeRoute(ctx, e); err != nil {
				return err
			}
		}
	}
	for _, e := range work {
		if e.want != nil || e.stale {
			continue
		}
		if e.have == nil {
			w.routes.settle(e)
			continue
		}
		if err := w.add(ctx, request{verb: deleteRoute, key: w.cfg.key(e.prefix), entry: e}); err != nil {
			return err
		}
	}
	return w.send(ctx)
}

// writeRoute adds the request that writes e's desired route.
func (w *writer) writeRoute(ctx context.Context, e *entry) error {
	nh := e.want.nh
	if err := w.unwritable(e.want); err != nil {
		w.routes.failing.add(e, err)
		return nil
	}
	r := request{verb: addRoute, key: w.cfg.key(e.prefix), nh: nh, entry: e}
	if e.have != nil {
		r.verb = replaceRoute
	}
	if w.routes.hops.objects && nh.object() {
		r.id = nh.id
	}
	return w.add(ctx, r)
}

// unwritable returns the reason that no route can point at want now.
func (w *writer) unwritable(want *hopset) error {
	g := &w.routes.hops
	switch {
	case want.err != nil:
		return want.err
	case want.nh.err != nil:
		return want.nh.err
	case want.nh.kind == linkHop:
		if g.devs.resolve(want.nh.dev) != nil {
			return ErrPending
		}
	case !g.objects:
		return g.resolveDevices(want.nh)
	case want.nh.object() && !want.nh.live:
		return fmt.Errorf("nexthop %v has no free ID: %w", want.nh, ErrUnsettled)
	}
	return nil
}

// removeStrays deletes condemned routes of ours under keys we do not write.
func (w *writer) removeStrays(ctx context.Context) error {
	t := w.routes
	if len(t.strays) == 0 || !t.sweep {
		return nil
	}
	for k, condemned := range t.strays {
		if !condemned {
			continue
		}
		delete(t.strays, k)
		if err := w.add(ctx, request{verb: deleteRoute, key: k}); err != nil {
			return errors.Join(err, ctx.Err())
		}
	}
	return w.send(ctx)
}
