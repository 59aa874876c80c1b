package fib

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	batchSize = 1024 // requests per write; a twentieth of the processor time less than with 256
	maxRounds = 4    // add refused, owner found, replaced: two rounds; a third for a race
)

// Apply writes what is queued: desired changes, failed routes that are due
// again, and after a link event or a lost reply first a reading of the kernel
// and what it shows to differ. Objects are written before the routes that
// refer to them, removals come last. One bad route never stops the rest: the
// error joins what went wrong, the routes are kept and tried again.
func (t *Table) Apply(ctx context.Context) error {
	if err := t.kernelOpen(ctx); err != nil {
		return err
	}
	t.retryDue(time.Now())
	if t.suspect {
		if err := t.read(ctx); err != nil {
			return err
		}
		t.readIn = t.flushes + 1 // the flush that follows
	}
	return t.flush(ctx)
}

// flush runs rounds until nothing is queued.
func (t *Table) flush(ctx context.Context) error {
	t.errs = t.errs[:0]
	t.flushes++
	if t.sweep {
		defer t.condemn() // what a reading found goes with the next flush
	}
	for round := 0; len(t.dirty) > 0 || len(t.hops.broken) > 0; round++ {
		if round == maxRounds {
			return errors.Join(append(t.errs, ErrUnsettled)...)
		}
		t.doubtReplaced()
		if t.suspect {
			if err := t.read(ctx); err != nil {
				return errors.Join(append(t.errs, err)...)
			}
		}
		t.first = round == 0
		if err := t.round(ctx); err != nil {
			t.suspect = true
			if ctx.Err() != nil {
				return errors.Join(append(t.errs, err)...)
			}
			t.log.Warn("replies of the kernel were lost, reading it again", "error", err)
		}
	}
	if err := t.removeStrays(ctx); err != nil {
		return errors.Join(append(t.errs, err)...)
	}
	if err := t.collect(ctx); err != nil {
		t.suspect = true
		return errors.Join(append(t.errs, err)...)
	}
	return joinSome(t.errs)
}

// doubtReplaced has the owner of every key that is about to be overwritten
// looked up first, or the kernel read when that is cheaper: somebody may have
// taken the key since we wrote it, and then it is not ours to change.
func (t *Table) doubtReplaced() {
	if t.suspect || t.readIn == t.flushes {
		return
	}
	replaced := 0
	for _, e := range t.dirty {
		if e.replaces() && e.asked != t.flushes {
			replaced++
		}
	}
	const lookupCost = 10 // of one look-up, in dumped routes (measured)
	if replaced > 16 && replaced*lookupCost > t.routes.len() {
		t.suspect = true
		return
	}
	if replaced == 0 {
		return
	}
	for _, e := range t.dirty {
		if e.replaces() && e.asked != t.flushes {
			e.doubt = true
		}
	}
}

// replaces reports whether e's route is to overwrite one of ours.
func (e *entry) replaces() bool { return e.want != nil && e.have != nil && !e.clean() }

// round writes everything that is queued once. After an error the entries
// that are not known to be written are queued again.
func (t *Table) round(ctx context.Context) error {
	work := t.dirty
	t.dirty, t.spare = t.spare[:0], work
	for _, e := range work {
		e.queued = false
	}
	err := t.steps(ctx, work)
	if err != nil {
		for _, e := range work {
			if !e.clean() {
				t.enqueue(e)
			}
		}
	}
	clear(work) // no stale pointers in the spare buffer
	t.spare = work[:0]
	return err
}

// steps is one round: what is in doubt, objects, routes, removals, and who
// holds the keys that were refused.
func (t *Table) steps(ctx context.Context, work []*entry) error {
	if err := t.askDoubtful(work); err != nil {
		return err
	}
	if err := t.writeObjects(ctx, work); err != nil {
		return err
	}
	for _, e := range work {
		if e.want != nil && !e.clean() {
			if err := t.writeRoute(ctx, e); err != nil {
				return err
			}
		}
	}
	for _, e := range work {
		if e.want != nil || e.stale {
			continue
		}
		if e.have == nil {
			t.settle(e)
			continue
		}
		if err := t.add(ctx, request{verb: deleteRoute, key: t.key(e.prefix), entry: e}); err != nil {
			return err
		}
	}
	if err := t.send(ctx); err != nil {
		return err
	}
	return t.askOwners()
}

// writeRoute adds the request that makes e's route as it should be.
func (t *Table) writeRoute(ctx context.Context, e *entry) error {
	nh := e.want.nh
	if err := t.unwritable(e.want); err != nil {
		t.failed(e, err)
		return nil
	}
	r := request{verb: addRoute, key: t.key(e.prefix), nh: nh, entry: e}
	if e.have != nil {
		r.verb = replaceRoute
	}
	if t.objects && nh.object() {
		r.id = nh.id
	}
	return t.add(ctx, r)
}

// unwritable returns why no route can point at want now.
func (t *Table) unwritable(want *hopset) error {
	switch {
	case want.err != nil:
		return want.err
	case want.nh.err != nil:
		return want.nh.err
	case want.nh.kind == linkHop:
		if t.resolve(want.nh.dev) != nil {
			return ErrPending
		}
	case !t.objects:
		return t.resolveAll(want.nh)
	case want.nh.object() && !want.nh.live:
		return fmt.Errorf("nexthop %v has no free ID: %w", want.nh, ErrUnsettled)
	}
	return nil
}

// resolve makes sure that the device's index is known.
func (t *Table) resolve(d *device) error {
	if d == nil || d.index != 0 {
		return nil
	}
	i, err := t.linkIndex(d.name)
	d.index = i
	return err
}

// linkIndex asks the kernel for the index of a device that routes may use.
func (t *Table) linkIndex(name string) (uint32, error) {
	if slices.Contains(t.avoid, name) {
		return 0, fmt.Errorf("device %q: %w", name, ErrAvoid)
	}
	return t.kernel.linkIndex(name)
}

// resolveAll resolves the devices of nh and its members.
func (t *Table) resolveAll(nh *nexthop) error {
	for _, m := range nh.members {
		if err := t.resolve(m.dev); err != nil {
			return err
		}
	}
	return t.resolve(nh.dev)
}

// add puts r into the batch and sends it when it is full.
func (t *Table) add(ctx context.Context, r request) error {
	t.reqs = append(t.reqs, r)
	if len(t.reqs) < batchSize {
		return nil
	}
	return t.send(ctx)
}

// send writes the batch and takes note of each outcome.
func (t *Table) send(ctx context.Context) error {
	if len(t.reqs) == 0 {
		return nil
	}
	err := ctx.Err()
	if err == nil {
		err = t.kernel.write(t.reqs)
		if err == nil {
			for i := range t.reqs {
				t.outcome(&t.reqs[i])
			}
		}
	}
	clear(t.reqs)
	t.reqs = t.reqs[:0]
	return err
}

// joinSome joins the errors, but only names the first few of many.
func joinSome(errs []error) error {
	const most = 8
	if len(errs) <= most {
		return errors.Join(errs...)
	}
	return errors.Join(append(append([]error{}, errs[:most]...), moreError(len(errs)-most))...)
}
