package ipam

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// memory is the state of an [Allocator]: the content of its file, and its
// consequences. Decisions are made in it, under its mutex, and become durable in
// the order in which they were made, see [queue].
type memory struct {
	store   *Store
	log     *slog.Logger
	changed chan struct{} // sent by us, never closed; full: a change is pending already

	mu          sync.Mutex // guards all below
	stock       stock
	workloads   workloads
	quarantined quarantines
	doubts      doubts
	tenure      tenure
	draining    bool
	stats       Stats

	queue queue
}

// newMemory returns a memory that holds nothing yet.
func newMemory(cfg Config) *memory {
	m := &memory{store: cfg.Store, log: cfg.Log, changed: make(chan struct{}, 1), doubts: doubts{}}
	m.stock = stock{pools: defaultsOf(cfg.Pools), cooldown: cfg.Cooldown}
	m.workloads = workloads{held: &m.stock.index, keptFor: cfg.Sticky}
	m.quarantined.held = &m.stock.index
	m.queue = queue{
		mu: &m.mu, store: cfg.Store, log: cfg.Log, reload: m.reloadLocked, changed: m.changed,
		wake: make(chan struct{}, 1), leaving: map[Handle]*batch{},
	}
	return m
}

// reloadLocked makes memory equal the store.
func (m *memory) reloadLocked() error {
	c, err := m.store.load()
	if err != nil {
		return err
	}
	return m.loadLocked(c)
}

// loadLocked sets memory to the store's content; it takes c over.
func (m *memory) loadLocked(c *contents) error {
	if err := c.overlap(); err != nil {
		return err
	}
	now := time.Now()
	m.stock.index = c.index
	m.stock.loadFreed(c.freed, now)
	if ahead := m.workloads.load(c.sticky, now); len(ahead) > 0 {
		// Each start would count the time anew, and never end it.
		if err := m.store.commit(ahead); err != nil {
			m.log.Warn("failed to store corrected times of sticky addresses", "err", err)
		}
	}
	m.placeLocked()
	m.doubts.apply(m.stock.order)
	m.quarantined.apply()
	return nil
}

// placeLocked brings the blocks in line with the pools and the machine's
// standing.
func (m *memory) placeLocked() {
	m.stock.assignPools()
	m.tenure.apply(&m.stock.index)
}

// setStandingLocked changes the machine's right to its blocks.
func (m *memory) setStandingLocked(to footing) {
	m.tenure.footing = to
	m.tenure.apply(&m.stock.index)
	signal(m.changed)
}

// barredLocked reports whether an address is quarantined.
func (m *memory) barredLocked(addr netip.Addr) bool {
	_, barred := m.quarantined.of(addr)
	return barred
}

// past brings a stored time into this run: one in the future (the clock was
// ahead, or is set back) counts as now. The result has the monotonic clock, so
// that no step of the wall clock makes it earlier or later any more.
func past(stored, now time.Time) time.Time {
	return now.Add(-max(now.Sub(stored), 0))
}
