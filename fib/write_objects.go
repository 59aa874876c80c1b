package fib

import (
	"context"
	"fmt"
	"slices"
)

// writeObjects makes every nexthop object live that the queued routes need, or
// that the kernel lost. A nexthop all of whose routes move to one new nexthop
// becomes that one in place: one message, no packet lost, and the routes need no
// write.
func (w *writer) writeObjects(ctx context.Context, work []*entry) error {
	if !w.routes.hops.objects {
		w.routes.hops.broken = w.routes.hops.broken[:0]
		return nil
	}
	singles, groups := w.neededObjects(work)
	defer func() {
		for _, nh := range slices.Concat(singles, groups) {
			nh.needed = false
		}
	}()
	moves := movesOf(work)
	err := w.putObjects(ctx, singles, moves)
	if err == nil {
		err = w.putObjects(ctx, groups, moves)
	}
	w.finishMoves(work, moves) // an answer is valid, also when a later request failed
	if err != nil {
		return err
	}
	return w.dropDead(ctx, work)
}

// neededObjects returns the objects, single ones and groups, that are not live
// and that the queued routes need or the kernel lost.
func (w *writer) neededObjects(work []*entry) (singles, groups []*nexthop) {
	need := func(nh *nexthop) {
		if nh.needed || nh.live || !nh.object() {
			return
		}
		nh.needed, nh.err = true, nil
		if nh.kind == groupHop {
			groups = append(groups, nh)
		} else {
			singles = append(singles, nh)
		}
	}
	all := func(nh *nexthop) {
		for _, m := range nh.members {
			need(m)
		}
		need(nh)
	}
	for _, e := range work {
		if nh := e.want.target(); nh != nil && !e.clean() {
			all(nh)
		}
	}
	for _, nh := range w.routes.hops.broken {
		if nh.refs > 0 || nh.groups > 0 {
			all(nh)
		}
	}
	w.routes.hops.broken = w.routes.hops.broken[:0]
	return singles, groups
}

// putObjects writes the objects of one kind. A new object's ID may turn out
// to be taken, which costs another attempt with the next one.
func (w *writer) putObjects(ctx context.Context, nhs []*nexthop, moves map[*nexthop]*nexthop) error {
	for again, attempt := true, 0; again && attempt < maxRounds; attempt++ {
		again = false
		for _, nh := range nhs {
			if nh.live || nh.err != nil {
				continue
			}
			if nh.err = w.writable(nh); nh.err != nil {
				continue
			}
			again = true
			if err := w.add(ctx, w.objectRequest(nh, moves[nh])); err != nil {
				return err
			}
		}
		if err := w.send(ctx); err != nil {
			return err
		}
	}
	for _, nh := range nhs {
		if nh.err != nil && nh.users > 0 {
			w.routes.failing.report(fmt.Errorf("nexthop %v: %w", nh, nh.err))
		}
	}
	return nil
}

// objectRequest returns the request that makes nh live: in place of old if
// there is one, over its own ID if it has one.
func (w *writer) objectRequest(nh, old *nexthop) request {
	switch {
	case old != nil && old.id != 0:
		return request{verb: replaceNexthop, nh: nh, id: old.id}
	case nh.id != 0:
		return request{verb: replaceNexthop, nh: nh, id: nh.id}
	}
	w.routes.hops.number(nh)
	return request{verb: addNexthop, nh: nh, id: nh.id}
}

// writable returns the reason that nh cannot be an object now.
func (w *writer) writable(nh *nexthop) error {
	for _, m := range nh.members {
		if m.err != nil {
			return m.err
		}
		if !m.live {
			return fmt.Errorf("member %v: %w", m, ErrUnsettled)
		}
	}
	return w.routes.hops.devs.resolve(nh.dev)
}

// collect deletes the objects without references and drops their nexthops; the
// removal of a group may leave its members without use.
func (w *writer) collect(ctx context.Context) error {
	g := &w.routes.hops
	for len(g.idle) > 0 {
		idle := g.idle
		g.idle = nil
		if err := w.deleteObjects(ctx, idle); err != nil {
			g.idle = append(g.idle, idle...)
			return err
		}
		for _, nh := range idle {
			nh.idle = false
			if nh.unused() && nh.id == 0 {
				g.forget(nh)
			}
		}
	}
	return nil
}

// deleteObjects deletes the unused objects among nhs, groups first: the kernel
// would shrink a group whose member is deleted.
func (w *writer) deleteObjects(ctx context.Context, nhs []*nexthop) error {
	for _, kind := range [...]hopKind{groupHop, gatewayHop, opaqueHop} {
		for _, nh := range nhs {
			if nh.kind != kind || !nh.unused() || nh.stale || w.routes.hops.byID[nh.id] != nh {
				continue
			}
			if err := w.add(ctx, request{verb: deleteNexthop, nh: nh, id: nh.id}); err != nil {
				return err
			}
		}
		if err := w.send(ctx); err != nil {
			return err
		}
	}
	return nil
}
