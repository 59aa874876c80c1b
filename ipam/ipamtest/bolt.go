package ipamtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"onlink/ipam"
)

// siegeSettle is how long a registry that lost its file waits in a siege, whose
// nodes assert three times a second.
const siegeSettle = 1500 * time.Millisecond

// Bolt is a bolt registry whose file can be closed, opened and lost while it
// is used.
type Bolt struct {
	path string

	mu    sync.RWMutex // held for reading during a call
	store *ipam.Store  // nil: closed; guarded by mu
}

// errDown is what a closed registry answers.
var errDown = errors.New("connection refused")

// NewBolt opens a registry until the test ends.
func NewBolt(t *testing.T) *Bolt {
	t.Helper()
	b := &Bolt{path: filepath.Join(t.TempDir(), "registry.db")}
	b.open(t, false)
	t.Cleanup(func() { b.close(t) })
	return b
}

func (b *Bolt) open(t *testing.T, lost bool) {
	t.Helper()
	s, err := ipam.OpenStore(b.path, ipam.StoreOptions{Lost: lost})
	if err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.store = s
}

func (b *Bolt) close(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.store == nil {
		return
	}
	if err := b.store.Close(); err != nil {
		t.Error(err)
	}
	b.store = nil
}

// Restart closes the file, and opens it after a moment.
func (b *Bolt) Restart(t *testing.T) {
	t.Helper()
	b.close(t)
	<-time.After(50 * time.Millisecond)
	b.open(t, false)
}

// Lose restarts the registry without its file.
func (b *Bolt) Lose(t *testing.T) {
	t.Helper()
	b.close(t)
	if err := os.Remove(b.path); err != nil {
		t.Fatal(err)
	}
	b.open(t, true)
}

// Pause is trouble that is only the partition of a node.
func Pause(*testing.T) { <-time.After(100 * time.Millisecond) }

// use runs f with the open registry.
func use[T any](b *Bolt, f func(*ipam.BoltRegistry) (T, error)) (T, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.store == nil {
		var none T
		return none, errDown
	}
	return f(b.store.BoltRegistry().WithSettle(siegeSettle))
}

// Claim implements [ipam.Registry].
func (b *Bolt) Claim(ctx context.Context, r ipam.ClaimRequest) (ipam.Block, error) {
	return use(b, func(reg *ipam.BoltRegistry) (ipam.Block, error) { return reg.Claim(ctx, r) })
}

// Release implements [ipam.Registry].
func (b *Bolt) Release(ctx context.Context, by ipam.Caller, block ipam.Block) error {
	_, err := use(b, func(reg *ipam.BoltRegistry) (struct{}, error) { return struct{}{}, reg.Release(ctx, by, block) })
	return err
}

// Assert implements [ipam.Registry].
func (b *Bolt) Assert(ctx context.Context, by ipam.Caller, held []ipam.Block) ([]ipam.Block, error) {
	return use(b, func(reg *ipam.BoltRegistry) ([]ipam.Block, error) { return reg.Assert(ctx, by, held) })
}

// List implements [ipam.Registry].
func (b *Bolt) List(ctx context.Context, node string) ([]ipam.Block, error) {
	return use(b, func(reg *ipam.BoltRegistry) ([]ipam.Block, error) { return reg.List(ctx, node) })
}

// TakeOver implements [ipam.Registry].
func (b *Bolt) TakeOver(ctx context.Context, by ipam.Caller, from string, force bool) ([]ipam.Block, error) {
	return use(b, func(reg *ipam.BoltRegistry) ([]ipam.Block, error) { return reg.TakeOver(ctx, by, from, force) })
}
