package state

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// publish gathers a snapshot that takes d each time a reader asks, until ctx
// ends, and returns how often.
func publish(ctx context.Context, b *Board, d time.Duration) (count *int, done <-chan struct{}) {
	count, ended := new(int), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-b.Wanted():
			}
			if !b.Outdated() {
				continue
			}
			s := &Snapshot{Taken: time.Now()}
			time.Sleep(d) // synctest's clock
			*count++
			b.Publish(s)
		}
	}()
	return count, ended
}

// TestSince: a reader gets nothing older than it asks for, readers that come
// at once share a snapshot, and nothing is gathered without a reader.
func TestSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		b := NewBoard()
		if b.Latest() != nil {
			t.Error("a snapshot before the first")
		}
		count, done := publish(ctx, b, 100*time.Millisecond)
		time.Sleep(time.Hour)

		read := func(t0 time.Time) {
			s, err := b.Since(ctx, t0)
			if err != nil {
				t.Errorf("since: %v", err)
			} else if s.Taken.Before(t0) {
				t.Errorf("a snapshot of %v for a reader of %v", s.Taken, t0)
			}
		}
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { read(time.Now()) })
		}
		all.Wait()
		if *count != 1 {
			t.Errorf("%d snapshots for readers that came at once", *count)
		}
		before := *count
		read(time.Now().Add(-time.Second)) // the last one is new enough
		if *count != before {
			t.Error("a new snapshot, though the latest was new enough")
		}
		time.Sleep(time.Second)
		read(time.Now())
		if *count != before+1 {
			t.Errorf("%d snapshots, want one more than %d", *count, before)
		}
		stop()
		<-done
	})
}

// TestSinceDuring: what is being gathered when a reader comes is too old for
// it.
func TestSinceDuring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		b := NewBoard()
		count, done := publish(ctx, b, 100*time.Millisecond)
		var first sync.WaitGroup
		first.Go(func() { _, _ = b.Since(ctx, time.Now()) })
		time.Sleep(50 * time.Millisecond)
		now := time.Now()
		s, err := b.Since(ctx, now)
		if err != nil || s.Taken.Before(now) || *count != 2 {
			t.Errorf("taken %v for a reader of %v, %d snapshots, %v", s.Taken, now, *count, err)
		}
		first.Wait()
		stop()
		<-done
	})
}

// TestSinceGivesUp: a publisher that does not answer keeps nobody longer than
// the reader's context.
func TestSinceGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if s, err := NewBoard().Since(ctx, time.Now()); s != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %v", s, err)
		}
	})
}

// TestTurn: the zero Turn before the first, then the latest.
func TestTurn(t *testing.T) {
	b := NewBoard()
	if got := b.Turn(); got != (Turn{}) {
		t.Errorf("%+v before the first", got)
	}
	want := Turn{At: time.Unix(1, 0), InSync: true}
	b.SetTurn(want)
	if got := b.Turn(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
