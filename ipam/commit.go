package ipam

import (
	"context"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// batch is a group of changes that become durable together.
type batch struct {
	changes []change
	freed   []Handle      // whose release is in it
	done    chan struct{} // closed by the committer
	err     error         // valid after done
}

// wait returns the batch's outcome, or ctx's error when that ends first; the
// changes may become durable all the same then.
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

// durable reports whether the batch was committed; nil is what was loaded.
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

// submitLocked queues changes. Batches are committed in the order of calls, so
// memory, which is changed under the same lock, and the file agree.
func (a *Allocator) submitLocked(changes ...change) *batch {
	if a.open == nil {
		a.open = &batch{done: make(chan struct{})}
		signal(a.wake)
	}
	a.open.changes = append(a.open.changes, changes...)
	return a.open
}

// submit queues changes and waits for them, whatever happens: the committer
// answers everything before it ends.
func (a *Allocator) submit(changes ...change) error {
	a.mu.Lock()
	if err := a.closed; err != nil {
		a.mu.Unlock()
		return err
	}
	b := a.submitLocked(changes...)
	a.mu.Unlock()
	<-b.done
	return b.err
}

// commitLoop is the committer: it takes all that is queued, makes it durable
// in one transaction, answers, and looks again. There is no timer: alone, a
// change is committed at once; under load, what comes during one commit is the
// next group. It returns when stop is closed and the queue is empty, or when
// the store is damaged.
func (a *Allocator) commitLoop(stop <-chan struct{}) error {
	for {
		select {
		case <-a.wake:
			if err := a.commitOpen(); err != nil {
				return err
			}
		case <-stop:
			return a.commitOpen() // nothing comes after close
		}
	}
}

// commitOpen commits the open batch.
func (a *Allocator) commitOpen() error {
	a.mu.Lock()
	b := a.open
	a.open = nil
	a.mu.Unlock()
	if b == nil {
		return nil
	}
	err := a.cfg.Store.commit(b.changes)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		return a.commitFailedLocked(b, err)
	}
	a.stats.Commits++
	a.stats.Changes += uint64(len(b.changes))
	a.finishLocked(b, nil)
	return nil
}

// commitFailedLocked answers the batch and the one queued behind it, which was
// decided on top of it, with the error, and returns memory to what the file
// holds. It returns an error when nothing can go on.
func (a *Allocator) commitFailedLocked(b *batch, err error) error {
	a.stats.CommitErrors++
	a.log.Error("changes could not be stored, nothing of them counts", "changes", len(b.changes), "err", err)
	fatal := damaged(err)
	if !fatal {
		if rerr := a.reloadLocked(); rerr != nil {
			err, fatal = fmt.Errorf("reload after %w: %w", err, rerr), true
		}
	}
	if fatal {
		a.closed = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	err = fmt.Errorf("store changes: %w", err)
	if next := a.open; next != nil {
		a.open = nil
		a.finishLocked(next, err)
	}
	a.finishLocked(b, err)
	signal(a.changed)
	if fatal {
		return err
	}
	return nil
}

// finishLocked answers everyone who waits for b.
func (a *Allocator) finishLocked(b *batch, err error) {
	for _, h := range b.freed {
		if a.leaving[h] == b {
			delete(a.leaving, h)
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
