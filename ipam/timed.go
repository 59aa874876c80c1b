package ipam

import (
	"context"
	"maps"
	"sync"
	"time"

	"onlink/internal/histogram"
)

// timed is a registry whose calls are timed, answered or not.
type timed struct {
	Registry

	mu    sync.Mutex
	calls map[string]histogram.Histogram // by name of the method; guarded by mu
}

// took notes the duration of a call that began at start.
func (t *timed) took(call string, start time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.calls == nil {
		t.calls = map[string]histogram.Histogram{}
	}
	h := t.calls[call]
	h.Observe(time.Since(start), 1)
	t.calls[call] = h
}

// durations returns a copy of how long the calls took.
func (t *timed) durations() map[string]histogram.Histogram {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.calls)
}

// Claim implements [Registry].
func (t *timed) Claim(ctx context.Context, req ClaimRequest) (Block, error) {
	defer t.took("Claim", time.Now())
	return t.Registry.Claim(ctx, req)
}

// Release implements [Registry].
func (t *timed) Release(ctx context.Context, by Caller, b Block) error {
	defer t.took("Release", time.Now())
	return t.Registry.Release(ctx, by, b)
}

// Assert implements [Registry].
func (t *timed) Assert(ctx context.Context, by Caller, held []Block) ([]Block, error) {
	defer t.took("Assert", time.Now())
	return t.Registry.Assert(ctx, by, held)
}

// List implements [Registry].
func (t *timed) List(ctx context.Context, node string) ([]Block, error) {
	defer t.took("List", time.Now())
	return t.Registry.List(ctx, node)
}

// TakeOver implements [Registry].
func (t *timed) TakeOver(ctx context.Context, by Caller, from string, force bool) ([]Block, error) {
	defer t.took("TakeOver", time.Now())
	return t.Registry.TakeOver(ctx, by, from, force)
}
