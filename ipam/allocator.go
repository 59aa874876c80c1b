package ipam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/pprof"
	"slices"
	"sync"
	"time"
)

// Defaults of [Config].
const (
	DefaultCooldown       = 60 * time.Second
	DefaultClaimTimeout   = 5 * time.Second
	DefaultAssertInterval = 60 * time.Second
	DefaultReleaseAfter   = 10 * time.Minute
	DefaultSpare          = 1
	DefaultSticky         = 24 * time.Hour
)

// Config is the configuration of an [Allocator].
type Config struct {
	Node string // this node's name in the registry; required
	// Address and Address6 are the next hops of this node's announcements: they
	// distinguish its database from a copy on another machine. Both zero: unknown.
	Address, Address6 netip.Addr
	// Running are the attachments whose interfaces are on this machine.
	Running []Handle
	// Announced names the announcer of one of the blocks over BGP besides this
	// machine, or the reason why that is unknown; empty: none. The allocator
	// calls it before it takes a name over from a silent machine. nil: silence is
	// enough.
	Announced func(ctx context.Context, blocks []netip.Prefix) string
	Pools     []Pool   // in order of preference
	Registry  Registry // required
	Store     *Store   // required; the allocator does not close it
	// BootID is the kernel's boot ID (/proc/sys/kernel/random/boot_id). When it
	// differs from the last run's, all assignments are freed: the attachments
	// died with the machine. Empty: never.
	BootID string
	// Cooldown is how long a freed address rests (default 60 s; negative: not
	// at all).
	Cooldown time.Duration
	// Sticky is how long addresses are reserved for a workload that has released
	// them (default 24 h; negative: not at all).
	Sticky time.Duration
	// ClaimTimeout bounds every call to the registry (default 5 s).
	ClaimTimeout time.Duration
	// AssertInterval is the time between two asserts of all held blocks
	// (default 60 s); claims that fail are retried sooner.
	AssertInterval time.Duration
	// ReleaseAfter is how long a surplus block stays empty before it is given
	// back (default 10 min).
	ReleaseAfter time.Duration
	// Spare is how many empty blocks of a pool in use are kept ahead (default
	// 1; negative: none).
	Spare int
	Log   *slog.Logger // nil: no log
}

// Validate checks the configuration; the error names the field.
func (c Config) Validate() error {
	switch {
	case c.Node == "" || len(c.Node) > maxName:
		return fmt.Errorf("%w: node name is empty or too long", ErrInvalidRequest)
	case c.Registry == nil:
		return fmt.Errorf("%w: registry is missing", ErrInvalidRequest)
	case c.Store == nil:
		return fmt.Errorf("%w: store is missing", ErrInvalidRequest)
	}
	return ValidatePools(c.Pools)
}

// withDefaults fills in the zero fields.
func (c Config) withDefaults() Config {
	c.Cooldown = max(cmp.Or(c.Cooldown, DefaultCooldown), 0)
	c.Sticky = max(cmp.Or(c.Sticky, DefaultSticky), 0)
	c.ClaimTimeout = cmp.Or(c.ClaimTimeout, DefaultClaimTimeout)
	c.AssertInterval = cmp.Or(c.AssertInterval, DefaultAssertInterval)
	c.ReleaseAfter = cmp.Or(c.ReleaseAfter, DefaultReleaseAfter)
	c.Spare = max(cmp.Or(c.Spare, DefaultSpare), 0)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Allocator assigns addresses of this node's blocks to attachments. All
// methods may be called concurrently; those that change something wait for
// [Allocator.Run].
type Allocator struct {
	*memory

	cfg       Config
	registrar *registrar
	sameBoot  bool // set by New
}

// New makes an allocator from the store's content. It starts nothing: call
// [Allocator.Run].
func New(cfg Config) (*Allocator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("new allocator: %w", err)
	}
	cfg = cfg.withDefaults()
	a := &Allocator{cfg: cfg, memory: newMemory(cfg)}
	a.registrar = newRegistrar(cfg, a.memory)
	if err := a.load(); err != nil {
		return nil, fmt.Errorf("new allocator: %w", err)
	}
	return a, nil
}

// load reads the store and settles whether it belongs to this machine.
func (a *Allocator) load() error {
	c, err := a.newBoot()
	if err != nil {
		return err
	}
	if a.tenure, err = newTenure(a.cfg, c); err != nil {
		return err
	}
	if a.tenure.why != nil {
		a.log.Error("the database belongs to another node or machine", "err", a.tenure.why)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.loadLocked(c)
}

// newBoot frees everything of a previous boot and notes the present one. The
// addresses need no rest: whoever spoke to them has seen the node vanish.
func (a *Allocator) newBoot() (*contents, error) {
	c, err := a.cfg.Store.load()
	if err != nil || a.cfg.BootID == "" || c.boot == a.cfg.BootID {
		a.sameBoot = err == nil && c.boot != ""
		return c, err
	}
	var todo []change
	if c.boot != "" {
		for i := range c.assignments {
			todo = append(todo, dropAssignment(c.assignments[i].Assignment, time.Now().Add(-a.cfg.Cooldown)))
		}
		a.log.Info("machine was rebooted, freeing all addresses of the previous boot", "count", len(todo))
	}
	if err := a.cfg.Store.commit(append(todo, saveBoot(a.cfg.BootID))); err != nil {
		return nil, err
	}
	return a.cfg.Store.load()
}

// defaultsOf returns a copy of pools with defaults filled in.
func defaultsOf(pools []Pool) []Pool {
	out := slices.Clone(pools)
	for i := range out {
		out[i] = out[i].withDefaults()
	}
	return out
}

// SetPools replaces the pools. A removed pool, or one with a changed CIDR, must
// have no assigned address ([ErrPoolInUse]): disable it first and wait. New block
// sizes and reserved ranges apply to later claims and assignments.
func (a *Allocator) SetPools(pools []Pool) error {
	if err := ValidatePools(pools); err != nil {
		return fmt.Errorf("set pools: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	next := defaultsOf(pools)
	for i := range a.stock.pools {
		old := &a.stock.pools[i]
		if slices.ContainsFunc(next, func(p Pool) bool { return p.CIDR == old.CIDR }) {
			continue
		}
		used := 0
		for _, e := range a.stock.byHandle {
			for _, addr := range e.Addresses {
				if old.CIDR.Contains(addr) {
					used++
				}
			}
		}
		if used > 0 {
			return fmt.Errorf("set pools: %w: %q (%v) has %d assigned addresses on this node: set it to disabled and remove it when they are released",
				ErrPoolInUse, old.Name, old.CIDR, used)
		}
	}
	a.stock.pools = next
	a.placeLocked()
	a.registrar.poolsChangedLocked()
	return nil
}

// Run commits decisions and calls the registry until ctx ends. It returns nil
// then, or the error that made the store unusable. After it every call returns
// [ErrClosed]. It is called once.
func (a *Allocator) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop, done := make(chan struct{}), make(chan error, 1)
	go pprof.Do(ctx, pprof.Labels("goroutine", "ipam-committer"), func(context.Context) {
		err := a.queue.run(stop)
		cancel(err) // a dead store ends the registry loop too
		done <- err
	})
	var watching sync.WaitGroup
	if w, ok := a.cfg.Registry.(ReleaseWatcher); ok {
		watching.Go(func() { w.WatchReleases(ctx, a.registrar.blockFreed) })
	}
	pprof.Do(ctx, pprof.Labels("goroutine", "ipam-registry"), a.registrar.run)
	watching.Wait()
	a.close()
	close(stop)
	if err := <-done; err != nil {
		return fmt.Errorf("run allocator: %w", err)
	}
	return nil
}

// close rejects new work and ends the claims that will not be served.
func (a *Allocator) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.queue.closed == nil {
		a.queue.closed = ErrClosed
	}
	a.registrar.closeLocked(a.queue.closed)
}

// Changed gets a value when the set of confirmed blocks has changed; the
// reader then calls [Allocator.Blocks].
func (a *Allocator) Changed() <-chan struct{} { return a.changed }

// signal sends to a channel of capacity one unless a signal is pending.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// damaged reports whether err means that the store must not be used any more.
func damaged(err error) bool { return errors.Is(err, ErrCorrupt) }
