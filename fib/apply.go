package fib

import (
	"context"
	"time"
)

// Apply writes the queued changes: desired routes that changed, failed routes
// that are due again, and, after a link event or a lost reply, the differences
// that a fresh reading of the kernel shows. Objects are written before the routes
// that refer to them, removals come last. One bad route never stops the rest: its
// error is joined to the others', the route is kept and tried again.
func (t *Table) Apply(ctx context.Context) error {
	if err := t.kernelOpen(ctx); err != nil {
		return err
	}
	t.routes.retry(time.Now())
	if t.routes.suspect {
		if err := t.reader.read(ctx); err != nil {
			return err
		}
		t.reader.current = t.routes.flush + 1 // the flush that follows
	}
	return t.flush(ctx)
}

// Resync reads the kernel's routes and objects of our protocol, in both families,
// compares them with the desired ones, and repairs the differences. Unchanged
// routes cost neither a write nor an allocation. Undesired routes are adopted and
// kept until [Table.AllowSweep]; after it they are swept, a newly found one by
// the next Apply or Resync.
func (t *Table) Resync(ctx context.Context) (Stats, error) {
	start := time.Now()
	if err := t.kernelOpen(ctx); err != nil {
		return t.Stats(), err
	}
	if err := t.reader.read(ctx); err != nil {
		return t.Stats(), err
	}
	t.reader.current = t.routes.flush + 1 // the flush that follows
	for e := range t.routes.failing.entries {
		t.routes.enqueue(e)
	}
	err := t.flush(ctx)
	t.routes.stats.Resyncs++
	t.routes.stats.LastResync = time.Since(start)
	return t.Stats(), err
}

// flush runs rounds until nothing is queued.
func (t *Table) flush(ctx context.Context) error {
	r := &t.routes
	r.failing.errs = r.failing.errs[:0]
	r.flush++
	if r.sweep {
		defer r.condemn() // routes that a reading found are swept by the next flush
	}
	for round := 0; len(r.dirty) > 0 || len(r.hops.broken) > 0; round++ {
		if round == maxRounds {
			return r.failing.ended(ErrUnsettled)
		}
		if !r.suspect && t.reader.current != r.flush {
			r.doubtReplaced()
		}
		if r.suspect {
			if err := t.reader.read(ctx); err != nil {
				return r.failing.ended(err)
			}
		}
		t.writer.first = round == 0
		if err := t.round(ctx); err != nil {
			r.suspect = true
			if ctx.Err() != nil {
				return r.failing.ended(err)
			}
			t.log.Warn("replies of the kernel were lost, reading it again", "err", err)
		}
	}
	if err := t.writer.removeStrays(ctx); err != nil {
		return r.failing.ended(err)
	}
	if err := t.writer.collect(ctx); err != nil {
		r.suspect = true
		return r.failing.ended(err)
	}
	return r.failing.joined()
}

// round writes everything that is queued once. After an error the entries whose
// write is not confirmed are queued again.
func (t *Table) round(ctx context.Context) error {
	work := t.routes.take()
	err := t.steps(ctx, work)
	if err != nil {
		for _, e := range work {
			if !e.clean() {
				t.routes.enqueue(e)
			}
		}
	}
	t.routes.giveBack(work)
	return err
}

// steps is one round: it queries the doubtful routes, writes objects and routes,
// removes others, and queries the owners of the refused keys.
func (t *Table) steps(ctx context.Context, work []*entry) error {
	if err := t.reader.askDoubtful(work); err != nil {
		return err
	}
	if err := t.writer.writeObjects(ctx, work); err != nil {
		return err
	}
	if err := t.writer.writeRoutes(ctx, work); err != nil {
		return err
	}
	taken := t.writer.taken
	if len(taken) == 0 {
		return nil
	}
	t.writer.taken = nil
	return t.reader.askOwners(taken)
}
