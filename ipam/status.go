package ipam

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"onlink/internal/histogram"
)

// BlockUsage is a held block and how full it is.
type BlockUsage struct {
	Block
	Used    int // assigned addresses
	Cooling int // freed ones that are not assigned again yet
	Size    int // all
	// Confirmed reports that this node may announce the block. It is false after
	// the registry named another owner, and while the block is released.
	Confirmed bool
	// Doubtful reports that the registry has not named the block's owner yet: an
	// older database or the pods in it made it this node's.
	Doubtful bool
	Poolless bool // it lies in no configured pool
}

// PoolUsage is this node's use of one pool.
type PoolUsage struct {
	Pool
	Blocks, Used, Cooling, Size int // of this node's blocks
	// NoFreeBlock reports that the registry had none left at the last claim; the
	// node claims again at times.
	NoFreeBlock bool
}

// PoolUsages returns the configured pools and this node's share of each.
func (a *Allocator) PoolUsages() []PoolUsage {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	out := make([]PoolUsage, len(a.stock.pools))
	for i := range a.stock.pools {
		u := &out[i]
		u.Pool = a.stock.pools[i]
		u.NoFreeBlock = now.Before(a.registrar.reg.full[u.Name])
		for _, h := range a.stock.order {
			if h.pool != &a.stock.pools[i] {
				continue
			}
			n, _ := h.cooling(now, a.cfg.Cooldown)
			u.Blocks, u.Used, u.Cooling, u.Size = u.Blocks+1, u.Used+h.used, u.Cooling+n, u.Size+len(h.slots)
		}
	}
	return out
}

// Stats counts since the start.
type Stats struct {
	Assigned, Released uint64 // attachments
	Commits            uint64 // transactions
	Changes            uint64 // changes in them; Changes/Commits is the size of a group
	CommitErrors       uint64
	Claims             uint64 // blocks claimed or adopted
	RegistryErrors     uint64 // calls that got no answer
	RegistryLastError  string // of the last call; empty: it answered
	// RegistryCalls is how long the calls to the registry took, answered or not, by
	// the name of the method of [Registry].
	RegistryCalls        map[string]histogram.Histogram
	RegistrySynced       bool // the registry has confirmed the held blocks once
	Assignments, Blocks  int  // now
	LostBlocks           int  // now: held, but not confirmed
	LostBlockAssignments int  // now: addresses in those
}

// Lookup returns an attachment's durable assignment.
func (a *Allocator) Lookup(h Handle) (Assignment, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stock.known(a.stock.byHandle[h])
}

// ByAddress returns the durable assignment that has addr.
func (a *Allocator) ByAddress(addr netip.Addr) (Assignment, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stock.known(a.stock.owner(addr))
}

// Assignments returns all durable assignments, in order of their first address.
func (a *Allocator) Assignments() []Assignment {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]Assignment, 0, len(a.stock.byHandle))
	for _, e := range a.stock.byHandle {
		if as, ok := a.stock.known(e); ok {
			out = append(out, as)
		}
	}
	slices.SortFunc(out, func(x, y Assignment) int { return x.Addresses[0].Compare(y.Addresses[0]) })
	return out
}

// Homeless returns the assignments with an address that lies neither in a
// configured pool nor in a held block.
func (a *Allocator) Homeless() []Assignment {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []Assignment
	for addr, e := range a.stock.strays {
		if a.stock.poolOf(addr) == nil {
			out = append(out, e.clone())
		}
	}
	slices.SortFunc(out, func(x, y Assignment) int { return x.Addresses[0].Compare(y.Addresses[0]) })
	return out
}

// Blocks returns the held blocks, in order of address.
func (a *Allocator) Blocks() []BlockUsage {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	out := make([]BlockUsage, 0, len(a.stock.order))
	for _, h := range a.stock.order {
		n, _ := h.cooling(now, a.cfg.Cooldown)
		out = append(out, BlockUsage{Block: h.Block, Used: h.used, Cooling: n, Size: len(h.slots), Confirmed: h.confirmed(), Doubtful: h.doubt != sure && !h.lost, Poolless: h.pool == nil})
	}
	slices.SortFunc(out, func(x, y BlockUsage) int { return comparePrefix(x.CIDR, y.CIDR) })
	return out
}

// Pools returns the pools, with defaults filled in.
func (a *Allocator) Pools() []Pool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.stock.pools)
}

// Stats returns the counters.
func (a *Allocator) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stats
	s.RegistryCalls = a.registrar.timed.durations()
	s.Commits, s.Changes, s.CommitErrors = a.queue.commits.done, a.queue.commits.changes, a.queue.commits.errors
	if a.registrar.reg.err != nil {
		s.RegistryLastError = strings.TrimSpace(a.registrar.reg.err.Error())
	}
	s.RegistrySynced = a.registrar.reg.synced
	s.Assignments, s.Blocks = len(a.stock.byHandle), len(a.stock.order)
	for _, h := range a.stock.order {
		if h.lost {
			s.LostBlocks++
			s.LostBlockAssignments += h.used
		}
	}
	return s
}
