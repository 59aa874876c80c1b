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

// Config is what an [Allocator] is made of.
type Config struct {
	Node string // this node's name in the registry; required
	// Address and Address6 are the next hops of this node's announcements: they
	// tell its database from a copy on another machine. Both zero: not known.
	Address, Address6 netip.Addr
	// Running are the attachments whose interfaces are on this machine.
	Running []Handle
	// Announced says who announces one of the blocks over BGP besides this
	// machine, or that it cannot tell; empty: nobody. Before it takes a name
	// over from a silent machine the allocator asks. nil: silence is enough.
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
	// Sticky is how long addresses are kept for a workload that let go of them
	// (default 24 h; negative: not at all).
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
	cfg     Config
	log     *slog.Logger
	changed chan struct{} // sent by us, never closed; full: a change is pending already
	wake    chan struct{} // to the committer; full: it will look anyway
	kick    chan struct{} // to the registry loop; full: it will look anyway

	mu sync.Mutex // guards all below
	index
	identity identity
	stand    footing
	proven   bool // the registry took this machine for the node in this run
	orders   []*order
	pools    []Pool
	sticky   map[string]sticky // by stickyKey
	draining bool
	kept     []Quarantine           // of this run: each start finds them anew
	doubts   map[netip.Prefix]doubt // of held blocks; what is not in it is sure
	open     *batch                 // of changes that wait for the committer; nil: none
	leaving  map[Handle]*batch
	wanted   []*attempt          // claims for the registry loop
	attempts map[target]*attempt // the same, and the one it is at
	reg      registryState
	closed   error // not nil: Run has ended
	sameBoot bool  // set by New
	stats    Stats
}

// New makes an allocator from what the store holds. It starts nothing: call
// [Allocator.Run].
func New(cfg Config) (*Allocator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("new allocator: %w", err)
	}
	cfg = cfg.withDefaults()
	a := &Allocator{
		cfg: cfg, log: cfg.Log,
		changed:  make(chan struct{}, 1),
		wake:     make(chan struct{}, 1),
		kick:     make(chan struct{}, 1),
		leaving:  map[Handle]*batch{},
		attempts: map[target]*attempt{},
		doubts:   map[netip.Prefix]doubt{},
	}
	a.pools = defaultsOf(cfg.Pools)
	c, err := a.newBoot()
	if err == nil {
		err = a.settleIdentity(c)
	}
	if err != nil {
		return nil, fmt.Errorf("new allocator: %w", err)
	}
	if a.stand.why != nil {
		a.log.Error("the database is not taken for this machine's", "err", a.stand.why)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.indexLocked(c); err != nil {
		return nil, fmt.Errorf("new allocator: %w", err)
	}
	return a, nil
}

// defaultsOf returns a copy of pools with defaults filled in.
func defaultsOf(pools []Pool) []Pool {
	out := slices.Clone(pools)
	for i := range out {
		out[i] = out[i].withDefaults()
	}
	return out
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

// reloadLocked makes memory equal the store.
func (a *Allocator) reloadLocked() error {
	c, err := a.cfg.Store.load()
	if err != nil {
		return err
	}
	return a.indexLocked(c)
}

// indexLocked makes memory what the store holds; it takes c over.
func (a *Allocator) indexLocked(c *contents) error {
	if err := c.overlap(); err != nil {
		return err
	}
	now := time.Now()
	a.index = c.index
	a.loadFreedLocked(c.freed, now)
	if ahead := a.loadStickyLocked(c.sticky, now); len(ahead) > 0 {
		// Each start would count the time anew, and never end it.
		if err := a.cfg.Store.commit(ahead); err != nil {
			a.log.Warn("sticky addresses: corrected times not stored", "err", err)
		}
	}
	a.placeLocked()
	a.doubtLocked()
	a.barLocked()
	return nil
}

// past brings a stored time into this run: one in the future (the clock was
// ahead, or is set back) counts as now. The result has the monotonic clock, so
// that no step of the wall clock makes it earlier or later any more.
func past(stored, now time.Time) time.Time {
	return now.Add(-max(now.Sub(stored), 0))
}

// loadFreedLocked brings back when addresses were freed, oldest first.
func (a *Allocator) loadFreedLocked(freed map[netip.Addr]time.Time, now time.Time) {
	type item struct {
		addr netip.Addr
		at   time.Time
	}
	items := make([]item, 0, len(freed))
	for addr, at := range freed {
		items = append(items, item{addr, past(at, now)})
	}
	slices.SortFunc(items, func(x, y item) int {
		return cmp.Or(x.at.Compare(y.at), x.addr.Compare(y.addr))
	})
	for _, it := range items {
		h := a.blockOf(it.addr)
		if h == nil || a.owner(it.addr) != nil {
			continue
		}
		h.free(ordinal(h.CIDR, it.addr), it.at)
	}
	for _, h := range a.order {
		h.emptySince = now // hysteresis begins anew
	}
}

// placeLocked gives every block its pool and puts blocks in filling order: by
// the pool's place, then as claimed.
func (a *Allocator) placeLocked() {
	place := map[*Pool]int{}
	for i := range a.pools {
		place[&a.pools[i]] = i
	}
	place[nil] = len(a.pools)
	for _, h := range a.order {
		h.pool = a.poolOfLocked(h.CIDR.Addr())
		h.next = 0
	}
	a.applyStandingLocked()
	slices.SortFunc(a.order, func(x, y *held) int {
		return cmp.Or(cmp.Compare(place[x.pool], place[y.pool]), cmp.Compare(x.Epoch, y.Epoch), comparePrefix(x.CIDR, y.CIDR))
	})
}

// poolOfLocked returns the configured pool that addr lies in, or nil.
func (a *Allocator) poolOfLocked(addr netip.Addr) *Pool {
	for i := range a.pools {
		if a.pools[i].CIDR.Contains(addr) {
			return &a.pools[i]
		}
	}
	return nil
}

// SetPools replaces the pools. A pool that is gone or whose CIDR changed must
// have no assigned address ([ErrPoolInUse]): disable it first and wait. New
// block sizes and reserved ranges count for what is claimed and assigned from
// now on.
func (a *Allocator) SetPools(pools []Pool) error {
	if err := ValidatePools(pools); err != nil {
		return fmt.Errorf("set pools: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	next := defaultsOf(pools)
	for i := range a.pools {
		old := &a.pools[i]
		if slices.ContainsFunc(next, func(p Pool) bool { return p.CIDR == old.CIDR }) {
			continue
		}
		used := 0
		for _, e := range a.byHandle {
			for _, addr := range e.Addresses {
				if old.CIDR.Contains(addr) {
					used++
				}
			}
		}
		if used > 0 {
			return fmt.Errorf("set pools: %w: %q (%v) has %d assigned addresses on this node: set it to disabled and remove it when they are gone",
				ErrPoolInUse, old.Name, old.CIDR, used)
		}
	}
	a.pools = next
	a.placeLocked()
	clear(a.reg.full)
	signal(a.kick)
	return nil
}

// Run commits what is decided and deals with the registry until ctx ends. It
// returns nil then, or the error that made the store unusable. After it every
// call returns [ErrClosed]. It is called once.
func (a *Allocator) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop, done := make(chan struct{}), make(chan error, 1)
	go pprof.Do(ctx, pprof.Labels("goroutine", "ipam-committer"), func(context.Context) {
		err := a.commitLoop(stop)
		cancel(err) // a dead store ends the registry loop too
		done <- err
	})
	var watching sync.WaitGroup
	if w, ok := a.cfg.Registry.(ReleaseWatcher); ok {
		watching.Go(func() { w.WatchReleases(ctx, a.blockFreed) })
	}
	pprof.Do(ctx, pprof.Labels("goroutine", "ipam-registry"), a.registryLoop)
	watching.Wait()
	a.close()
	close(stop)
	if err := <-done; err != nil {
		return fmt.Errorf("run allocator: %w", err)
	}
	return nil
}

// blockFreed asks again for blocks of pools that had none.
func (a *Allocator) blockFreed() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.reg.full) > 0 {
		clear(a.reg.full)
		signal(a.kick)
	}
}

// close refuses new work and ends the claims that nobody will serve.
func (a *Allocator) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed == nil {
		a.closed = ErrClosed
	}
	for _, t := range a.attempts {
		t.finish(a.closed)
	}
	a.wanted = nil
	clear(a.attempts)
	for _, o := range a.orders {
		o.err = a.closed
		close(o.done)
	}
	a.orders = nil
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
