package ipam

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	bolt "go.etcd.io/bbolt"
)

// batch is a group of changes that become durable together.
type batch struct {
	changes []change
	freed   []Handle      // released in it
	done    chan struct{} // closed by the committer
	err     error         // valid after done
}

// wait returns the batch's outcome, or ctx's error when that ends first; the
// changes may still become durable then.
func (b *batch) wait(ctx context.Context) error {
	select {
	case <-b.done:
		return b.err
	default:
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waitAny is wait for a batch that may be nil.
func (b *batch) waitAny(ctx context.Context) error {
	if b == nil {
		return nil
	}
	return b.wait(ctx)
}

// durable reports whether the batch was committed; nil stands for the loaded
// state.
func (b *batch) durable() bool {
	if b == nil {
		return true
	}
	select {
	case <-b.done:
		return b.err == nil
	default:
		return false
	}
}

// queue makes changes durable in the order in which they were decided. Its
// committer is one goroutine, see [queue.run].
type queue struct {
	mu      *sync.Mutex // of the memory that the changes are decided in
	store   *Store
	log     *slog.Logger
	reload  func() error  // makes memory equal the store; called with mu held
	changed chan struct{} // gets a signal when memory was reloaded
	wake    chan struct{} // to the committer; full: it is awake already

	open    *batch            // of changes that wait for the committer; nil: none; guarded by mu
	leaving map[Handle]*batch // releases that are not durable yet; guarded by mu
	closed  error             // not nil: nothing is taken any more; guarded by mu
	commits commitStats       // guarded by mu
}

// commitStats counts transactions, the changes in them, and failed ones.
type commitStats struct{ done, changes, errors uint64 }

// addLocked queues changes. Batches are committed in the order of calls, so
// memory, which is changed under the same lock, and the file agree.
func (q *queue) addLocked(changes ...change) *batch {
	if q.open == nil {
		q.open = &batch{done: make(chan struct{})}
		signal(q.wake)
	}
	q.open.changes = append(q.open.changes, changes...)
	return q.open
}

// releaseLocked queues the changes of a release.
func (q *queue) releaseLocked(h Handle, changes ...change) *batch {
	b := q.addLocked(changes...)
	b.freed = append(b.freed, h)
	q.leaving[h] = b
	return b
}

// submit queues changes and waits for them without a bound: the committer answers
// everything before it ends.
func (q *queue) submit(changes ...change) error {
	q.mu.Lock()
	if err := q.closed; err != nil {
		q.mu.Unlock()
		return err
	}
	b := q.addLocked(changes...)
	q.mu.Unlock()
	<-b.done
	return b.err
}

// run is the committer: it takes all queued changes, makes them durable in one
// transaction, answers, and takes the next. There is no timer: alone, a change is
// committed at once; under load, the changes that arrive during one commit are the
// next group. It returns when stop is closed and the queue is empty, or when the
// store is damaged.
func (q *queue) run(stop <-chan struct{}) error {
	for {
		select {
		case <-q.wake:
			if err := q.commit(); err != nil {
				return err
			}
		case <-stop:
			return q.commit() // nothing comes after close
		}
	}
}

// commit makes the open batch durable.
func (q *queue) commit() error {
	q.mu.Lock()
	b := q.open
	q.open = nil
	q.mu.Unlock()
	if b == nil {
		return nil
	}
	err := q.store.commit(b.changes)
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		return q.failedLocked(b, err)
	}
	q.commits.done++
	q.commits.changes += uint64(len(b.changes))
	q.finishLocked(b, nil)
	return nil
}

// failedLocked answers the batch and the one queued behind it, which was
// decided on top of it, with the error, and returns memory to the file's content.
// It returns an error when the store is unusable.
func (q *queue) failedLocked(b *batch, err error) error {
	q.commits.errors++
	q.log.Error("failed to store changes, they are undone", "changes", len(b.changes), "err", err)
	fatal := damaged(err)
	if !fatal {
		if rerr := q.reload(); rerr != nil {
			err, fatal = fmt.Errorf("reload after %w: %w", err, rerr), true
		}
	}
	if fatal {
		q.closed = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	err = fmt.Errorf("store changes: %w", err)
	if next := q.open; next != nil {
		q.open = nil
		q.finishLocked(next, err)
	}
	q.finishLocked(b, err)
	signal(q.changed)
	if fatal {
		return err
	}
	return nil
}

// finishLocked answers every waiter of b.
func (q *queue) finishLocked(b *batch, err error) {
	for _, h := range b.freed {
		if q.leaving[h] == b {
			delete(q.leaving, h)
		}
	}
	b.err = err
	b.changes = nil
	close(b.done)
}

// saveBoot notes the boot ID.
func saveBoot(id string) change {
	return func(tx *bolt.Tx) error { return putMeta(tx, metaBoot, []byte(id)) }
}
