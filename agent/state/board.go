package state

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Board carries snapshots from the one goroutine that publishes them to any
// number of readers. Without a request nothing is gathered: on a quiet node it
// costs nothing.
type Board struct {
	latest atomic.Pointer[Snapshot]
	turn   atomic.Pointer[Turn]
	wanted chan struct{} // cap 1; sent to by readers when it is empty, never closed

	mu        sync.Mutex
	published chan struct{} // closed and replaced by Publish; guarded by mu
	newest    time.Time     // the latest requested time; guarded by mu
}

// NewBoard returns an empty board.
func NewBoard() *Board {
	return &Board{wanted: make(chan struct{}, 1), published: make(chan struct{})}
}

// Wanted is received from by the publisher: a reader may need a newer snapshot,
// see Outdated.
func (b *Board) Wanted() <-chan struct{} { return b.wanted }

// Outdated reports whether a reader requested a snapshot that is newer than the
// latest one.
func (b *Board) Outdated() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.latest.Load()
	return s == nil || s.Taken.Before(b.newest)
}

// Publish makes s the latest snapshot. It must not be changed from now on.
func (b *Board) Publish(s *Snapshot) {
	b.latest.Store(s)
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.published)
	b.published = make(chan struct{})
}

// Latest returns the snapshot that was published last; nil before the first.
func (b *Board) Latest() *Snapshot { return b.latest.Load() }

// Since returns a snapshot that was begun at t or later. With a t in the past
// several readers share one; with the present a reader sees the effects of all
// it did before.
func (b *Board) Since(ctx context.Context, t time.Time) (*Snapshot, error) {
	for {
		b.mu.Lock()
		published := b.published
		if t.After(b.newest) {
			b.newest = t
		}
		b.mu.Unlock()
		if s := b.latest.Load(); s != nil && !s.Taken.Before(t) {
			return s, nil
		}
		select {
		case b.wanted <- struct{}{}:
		default: // the publisher has not begun yet: its snapshot will be new enough
		}
		select {
		case <-published:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Turn is the latest turn of the learn loop.
type Turn struct {
	At     time.Time // its end
	InSync bool      // the routes of a previous run were swept
}

// SetTurn notes a turn of the learn loop.
func (b *Board) SetTurn(t Turn) { b.turn.Store(&t) }

// Turn returns the latest turn of the learn loop, the zero Turn before the
// first.
func (b *Board) Turn() Turn {
	if t := b.turn.Load(); t != nil {
		return *t
	}
	return Turn{}
}
