package ipam

import (
	"context"
	"fmt"
	"time"
)

// Release frees an attachment's addresses and returns, when that is durable,
// what it had. An attachment without addresses is a success: ok is false.
func (a *Allocator) Release(ctx context.Context, h Handle) (as Assignment, ok bool, err error) {
	a.mu.Lock()
	e := a.stock.byHandle[h]
	b := a.queue.leaving[h] // somebody else is releasing it: wait for the same commit
	switch {
	case a.queue.closed != nil:
		err = a.queue.closed
	case e != nil:
		as, ok = a.stock.result(e), true
		b = a.releaseLocked(e)
	}
	a.mu.Unlock()
	if err == nil {
		err = b.waitAny(ctx)
	}
	if err != nil {
		return Assignment{}, false, fmt.Errorf("release address of %v: %w", h, err)
	}
	return as, ok, nil
}

// releaseLocked takes an assignment out and queues the change.
func (a *Allocator) releaseLocked(e *entry) *batch {
	now := time.Now()
	a.stock.remove(e, now)
	a.stats.Released++
	return a.queue.releaseLocked(e.Handle, append(a.workloads.free(e, now), dropAssignment(e.Assignment, now))...)
}

// Collect frees every assignment of which gone reports true, and returns them.
// gone is called without any lock held; an assignment is freed only if it is still
// the same one then. gone must check the network namespace (and the runtime's
// list), never only names.
func (a *Allocator) Collect(ctx context.Context, gone func(Assignment) bool) ([]Assignment, error) {
	var dead []Assignment
	for _, as := range a.Assignments() {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("collect assignments: %w", err)
		}
		if gone(as) {
			dead = append(dead, as)
		}
	}
	var out []Assignment
	var last *batch
	a.mu.Lock()
	for _, as := range dead {
		e := a.stock.byHandle[as.Handle]
		if e == nil || a.queue.closed != nil || !e.Assigned.Equal(as.Assigned) || e.Netns != as.Netns {
			continue
		}
		out = append(out, a.stock.result(e))
		last = a.releaseLocked(e) // one lock, one batch
	}
	err := a.queue.closed
	a.mu.Unlock()
	if err == nil {
		err = last.waitAny(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("collect assignments: %w", err)
	}
	return out, nil
}
