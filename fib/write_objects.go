package fib

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// writeObjects makes every nexthop object that the queued routes want, or
// that the kernel lost, live. A nexthop all of whose routes move to one new
// nexthop becomes that one in place: one message, no packet lost, and the
// routes need no write.
func (t *Table) writeObjects(ctx context.Context, work []*entry) error {
	if !t.objects {
		t.hops.broken = t.hops.broken[:0]
		return nil
	}
	singles, groups := t.neededObjects(work)
	defer func() {
		for _, nh := range slices.Concat(singles, groups) {
			nh.needed = false
		}
	}()
	moves := t.moves(work)
	err := t.putObjects(ctx, singles, moves)
	if err == nil {
		err = t.putObjects(ctx, groups, moves)
	}
	t.finishMoves(work, moves) // what was answered is true, whatever failed after it
	if err != nil {
		return err
	}
	return t.dropDead(ctx, work)
}

// neededObjects returns the objects, single ones and groups, that are not
// live and that the queued routes want or the kernel lost.
func (t *Table) neededObjects(work []*entry) (singles, groups []*nexthop) {
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
	for _, nh := range t.hops.broken {
		if nh.refs > 0 || nh.groups > 0 {
			all(nh)
		}
	}
	t.hops.broken = t.hops.broken[:0]
	return singles, groups
}

// putObjects writes the objects of one kind. A new object's ID may turn out
// to be taken, which costs another attempt with the next one.
func (t *Table) putObjects(ctx context.Context, nhs []*nexthop, moves map[*nexthop]*nexthop) error {
	for again, attempt := true, 0; again && attempt < maxRounds; attempt++ {
		again = false
		for _, nh := range nhs {
			if nh.live || nh.err != nil {
				continue
			}
			if nh.err = t.writable(nh); nh.err != nil {
				continue
			}
			again = true
			if err := t.add(ctx, t.objectRequest(nh, moves[nh])); err != nil {
				return err
			}
		}
		if err := t.send(ctx); err != nil {
			return err
		}
	}
	for _, nh := range nhs {
		if nh.err != nil && nh.users > 0 {
			t.errs = append(t.errs, fmt.Errorf("nexthop %v: %w", nh, nh.err))
		}
	}
	return nil
}

// objectRequest returns the request that makes nh live: in place of old if
// there is one, over its own ID if it has one.
func (t *Table) objectRequest(nh, old *nexthop) request {
	switch {
	case old != nil && old.id != 0:
		return request{verb: replaceNexthop, nh: nh, id: old.id}
	case nh.id != 0:
		return request{verb: replaceNexthop, nh: nh, id: nh.id}
	}
	t.hops.number(nh)
	return request{verb: addNexthop, nh: nh, id: nh.id}
}

// writable returns why nh cannot be an object now.
func (t *Table) writable(nh *nexthop) error {
	for _, m := range nh.members {
		if m.err != nil {
			return m.err
		}
		if !m.live {
			return fmt.Errorf("member %v: %w", m, ErrUnsettled)
		}
	}
	return t.resolve(nh.dev)
}

// objectOutcome takes note of what became of an object.
func (t *Table) objectOutcome(r *request) {
	nh, errno := r.nh, errnoOf(r.err)
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
		t.errs = append(t.errs, fmt.Errorf("delete nexthop %v: %w", nh, r.err))
	default:
	}
}

// forgetIndex has the devices of nh looked up again before the next attempt:
// one may have been recreated.
func (nh *nexthop) forgetIndex() {
	if nh.dev != nil {
		nh.dev.index = 0
	}
	for _, m := range nh.members {
		m.dev.index = 0
	}
}

// gone records that the kernel no longer holds nh's object.
func (g *targets) gone(nh *nexthop) {
	if nh.id != 0 && g.byID[nh.id] == nh {
		delete(g.byID, nh.id)
	}
	nh.id, nh.live, nh.stale = 0, false, false
}

// collect deletes the objects nothing refers to and forgets their nexthops;
// a group that goes may leave its members without use.
func (t *Table) collect(ctx context.Context) error {
	for len(t.hops.idle) > 0 {
		idle := t.hops.idle
		t.hops.idle = nil
		if err := t.deleteObjects(ctx, idle); err != nil {
			t.hops.idle = append(t.hops.idle, idle...)
			return err
		}
		for _, nh := range idle {
			nh.idle = false
			if nh.unused() && nh.id == 0 {
				t.hops.forget(nh)
			}
		}
	}
	return nil
}

// deleteObjects deletes the unused objects among nhs, groups first: the
// kernel would shrink a group whose member goes.
func (t *Table) deleteObjects(ctx context.Context, nhs []*nexthop) error {
	for _, kind := range [...]hopKind{groupHop, gatewayHop, opaqueHop} {
		for _, nh := range nhs {
			if nh.kind != kind || !nh.unused() || nh.stale || t.hops.byID[nh.id] != nh {
				continue
			}
			if err := t.add(ctx, request{verb: deleteNexthop, nh: nh, id: nh.id}); err != nil {
				return err
			}
		}
		if err := t.send(ctx); err != nil {
			return err
		}
	}
	return nil
}

// removeStrays deletes condemned routes of ours under keys we do not write.
func (t *Table) removeStrays(ctx context.Context) error {
	if len(t.strays) == 0 || !t.sweep {
		return nil
	}
	for k, condemned := range t.strays {
		if !condemned {
			continue
		}
		delete(t.strays, k)
		if err := t.add(ctx, request{verb: deleteRoute, key: k}); err != nil {
			return errors.Join(err, ctx.Err())
		}
	}
	return t.send(ctx)
}
