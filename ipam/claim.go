package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Bounds of the wait after a registry that could not be reached, and the waits
// before a pool without free blocks, or a registry that settles, is asked for a
// spare block again.
const (
	retryFirst  = 200 * time.Millisecond
	retryLast   = 15 * time.Second
	fullRetry   = 30 * time.Second
	settleRetry = 5 * time.Second
)

// promiseTime is how long a block that an assign waited for is not given back.
const promiseTime = 10 * time.Second

// target names what a claim is for: any block of a pool, or exactly one.
type target struct {
	pool  string
	block netip.Prefix
}

// attempt is one claim that assigns wait for together.
type attempt struct {
	target
	done chan struct{} // closed by whoever takes it off Allocator.attempts
	err  error         // valid after done
}

func (t *attempt) finish(err error) {
	t.err = err
	close(t.done)
}

// registryState is what the registry loop remembers; Allocator.mu guards it.
type registryState struct {
	err     error         // of the last call; nil: it answered
	retryAt time.Time     // before it, claims are refused with err
	backoff time.Duration // the next wait
	syncAt  time.Time     // when to assert the held blocks again
	synced  bool          // the registry has confirmed them once in this run
	full    map[string]time.Time
}

// claimLocked joins or starts a claim. While the registry is known to be out
// of reach it returns [ErrClaimFailed] at once.
func (a *Allocator) claimLocked(t target) (*attempt, error) {
	if at := a.attempts[t]; at != nil {
		return at, nil
	}
	if left := time.Until(a.reg.retryAt); a.reg.err != nil && left > 0 {
		return nil, fmt.Errorf("%w: held blocks are full and the registry does not answer, next try in %v: %w",
			ErrClaimFailed, left.Round(time.Millisecond), a.reg.err)
	}
	at := &attempt{target: t, done: make(chan struct{})}
	a.attempts[t] = at
	a.wanted = append(a.wanted, at)
	signal(a.kick)
	return at, nil
}

// registryLoop is the only goroutine that speaks to the registry, so that a
// slow one holds up nothing but new blocks, and no two calls race.
func (a *Allocator) registryLoop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-a.kick:
		}
		timer.Reset(a.tend(ctx))
	}
}

// tend does what is due and returns the time until it wants to be called again.
func (a *Allocator) tend(ctx context.Context) time.Duration {
	a.serveOrders(ctx)
	a.mu.Lock()
	others := a.stand.standing == foreign
	due := !time.Now().Before(a.reg.syncAt) && !time.Now().Before(a.reg.retryAt)
	a.mu.Unlock()
	if others { // the registry could only say of this node what the database does not know
		return a.cfg.AssertInterval
	}
	if due {
		a.expireSticky()
		a.assertDue(ctx)
	}
	a.serveWanted(ctx, due)
	a.prefetch(ctx)
	a.giveBack(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.reg.err != nil {
		return max(time.Until(a.reg.retryAt), retryFirst)
	}
	return min(max(time.Until(a.reg.syncAt), retryFirst), a.cfg.AssertInterval/2+retryFirst)
}

// assertDue tells the registry what this node holds, unless the database may be
// a copy of one that is in use.
func (a *Allocator) assertDue(ctx context.Context) {
	if who := a.copied(ctx); who != "" {
		a.doubt(who)
		return
	}
	err := a.sync(ctx)
	a.heard(ctx, err)
	if refusal(err) && ctx.Err() == nil {
		a.refuse(err)
	}
}

// serveWanted does the claims that assigns wait for. After a sync that has just
// failed they fail too, without another try.
func (a *Allocator) serveWanted(ctx context.Context, synced bool) {
	for {
		a.mu.Lock()
		if len(a.wanted) == 0 {
			a.mu.Unlock()
			return
		}
		at := a.wanted[0]
		a.wanted = a.wanted[1:]
		err, served := a.reg.err, a.servedLocked(at.target)
		a.mu.Unlock()
		switch {
		case served:
			err = nil
		case err == nil || !synced:
			err = a.claim(ctx, at.target)
		}
		a.mu.Lock()
		delete(a.attempts, at.target)
		if err == nil {
			a.promiseLocked(at.target)
		}
		at.finish(claimError(err))
		a.mu.Unlock()
	}
}

// promiseLocked keeps the empty blocks that a claim was for until those who
// waited had time to take an address. On a draining node the block would be
// gone again before they look, they would claim once more, and so on for ever.
func (a *Allocator) promiseLocked(t target) {
	until := time.Now().Add(promiseTime)
	for _, h := range a.order {
		if h.used == 0 && h.serves() && h.pool.Name == t.pool && (!t.block.IsValid() || h.CIDR == t.block) {
			h.promised = until
		}
	}
}

// servedLocked reports whether a claim is not needed any more: what was claimed
// ahead meanwhile will do.
func (a *Allocator) servedLocked(t target) bool {
	now := time.Now()
	for _, h := range a.order {
		if !h.serves() || h.pool.Name != t.pool || t.block.IsValid() && h.CIDR != t.block {
			continue
		}
		if _, free := h.pick(now, a.cfg.Cooldown); free || t.block.IsValid() {
			return true
		}
	}
	return false
}

// claimError marks an error as one of claiming, except the registry's own
// answers.
func claimError(err error) error {
	if err == nil || errors.Is(err, ErrPoolExhausted) || errors.Is(err, ErrBlockTaken) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrClaimFailed, err)
}

// answered reports whether err is the registry's own word.
func answered(err error) bool {
	return err == nil || errors.Is(err, ErrPoolExhausted) || errors.Is(err, ErrBlockTaken) ||
		errors.Is(err, ErrNotOwner) || errors.Is(err, ErrSettling) || refusal(err)
}

// heard notes the outcome of a call to the registry. Only a registry that did
// not answer makes the next call wait.
func (a *Allocator) heard(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // we are being stopped: says nothing of the registry
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if answered(err) {
		if a.reg.err != nil {
			a.log.Info("block registry answers again")
		}
		a.reg.err, a.reg.backoff, a.reg.retryAt = nil, 0, time.Time{}
		return
	}
	if a.reg.err == nil {
		a.log.Warn("block registry does not serve, going on with held blocks", "err", err)
	}
	a.stats.RegistryErrors++
	a.reg.backoff = min(max(2*a.reg.backoff, retryFirst), retryLast)
	a.reg.err, a.reg.retryAt = err, time.Now().Add(a.reg.backoff)
	a.reg.syncAt = time.Time{} // a lost answer may hide a block that is ours now
}

// claim gets a block, makes it durable, and serves from it.
func (a *Allocator) claim(ctx context.Context, t target) error {
	a.mu.Lock()
	var pool *Pool
	for i := range a.pools {
		if a.pools[i].Name == t.pool && !a.pools[i].closed() {
			p := a.pools[i]
			pool = &p
		}
	}
	unproven, why := a.stand.standing == unproven, a.stand.why
	a.mu.Unlock()
	if pool == nil {
		return fmt.Errorf("%w: pool %q is gone or disabled", ErrInvalidRequest, t.pool)
	}
	if unproven { // a claim would make this machine the node, as an assert does
		return why
	}
	cctx, cancel := context.WithTimeout(ctx, a.cfg.ClaimTimeout)
	defer cancel()
	b, err := a.cfg.Registry.Claim(cctx, ClaimRequest{
		Caller: a.caller(), Pool: pool.Name, PoolCIDR: pool.CIDR, BlockSize: pool.BlockSize, Reserved: pool.Reserved, Block: t.block,
	})
	if err == nil && (b.Node != a.cfg.Node || b.CIDR.Masked() != b.CIDR || !insideAny(b.CIDR, []netip.Prefix{pool.CIDR}) ||
		b.CIDR.Bits() != pool.BlockSize || t.block.IsValid() && b.CIDR != t.block) {
		err = fmt.Errorf("registry answered with %v of node %q", b.CIDR, b.Node)
	}
	a.heard(ctx, err)
	if err != nil {
		a.noteFull(pool.Name, err)
		if errors.Is(err, ErrRefused) {
			a.refuse(err)
		}
		return err
	}
	if err := a.adopt(b); err != nil {
		return err
	}
	a.log.Info("claimed block", "block", b.CIDR, "pool", b.Pool, "epoch", b.Epoch)
	return nil
}

// noteFull notes for prefetch that a pool gives no block for a while.
func (a *Allocator) noteFull(pool string, err error) {
	wait := fullRetry
	switch {
	case errors.Is(err, ErrSettling):
		wait = settleRetry
	case !errors.Is(err, ErrPoolExhausted):
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.reg.full == nil {
		a.reg.full = map[string]time.Time{}
	}
	a.reg.full[pool] = time.Now().Add(wait)
}

// adopt serves from a block that the registry says is ours.
func (a *Allocator) adopt(b Block) error {
	a.mu.Lock()
	instead, other := a.inTheWayLocked(b)
	a.mu.Unlock()
	if other != nil {
		return fmt.Errorf("%w: block %v overlaps %v, which this node holds", ErrBlockTaken, b.CIDR, other.CIDR)
	}
	var todo []change
	for _, h := range instead {
		todo = append(todo, dropBlock(h.CIDR))
	}
	if err := a.submit(append(todo, saveBlock(heldBlock{Block: b}))...); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range instead {
		delete(a.doubts, h.CIDR)
		a.dropBlock(h)
	}
	if h := a.blocks[b.CIDR]; h != nil {
		h.heldBlock = heldBlock{Block: b}
	} else {
		a.addBlock(newHeld(heldBlock{Block: b}, time.Now()))
		for _, s := range a.sticky { // the block may have been ours before
			a.keepLocked(s)
		}
	}
	a.settleDoubtLocked(a.blocks[b.CIDR])
	a.placeLocked()
	a.barLocked()
	a.stats.Claims++
	signal(a.changed)
	return nil
}

// inTheWayLocked returns the held blocks that overlap b and are no more than a
// guess of it, to be replaced by it, and one that is not, nil when there is
// none.
func (a *Allocator) inTheWayLocked(b Block) (guesses []*held, other *held) {
	for p, h := range a.blocks {
		switch {
		case p == b.CIDR || !p.Overlaps(b.CIDR):
		case h.Epoch == recoveredEpoch && b.Epoch > recoveredEpoch:
			guesses = append(guesses, h)
		default:
			other = h
		}
	}
	return guesses, other
}

// prefetch claims what the node wants to have ahead.
func (a *Allocator) prefetch(ctx context.Context) {
	for ctx.Err() == nil {
		a.mu.Lock()
		p := a.wantsLocked(time.Now())
		if a.reg.err != nil || !a.reg.synced {
			p = nil // a claim now could miss a block that is ours already
		}
		a.mu.Unlock()
		if p == nil {
			return
		}
		err := a.claim(ctx, target{pool: p.Name})
		if err != nil && !errors.Is(err, ErrPoolExhausted) && !errors.Is(err, ErrSettling) {
			return
		}
	}
}

// needsBlockLocked reports whether prefetch has something to do.
func (a *Allocator) needsBlockLocked(now time.Time) bool { return a.wantsLocked(now) != nil }

// wantsLocked returns a pool of which a block should be claimed: one that is in
// use and has no spare block, or of each family the first automatic one, so
// that the node has a block to announce before its first pod.
func (a *Allocator) wantsLocked(now time.Time) *Pool {
	if a.draining {
		return nil
	}
	var served [2]bool // by family: a pool before this one will do
	for i := range a.pools {
		p := &a.pools[i]
		family := 0
		if p.is4() {
			family = 1
		}
		if p.closed() {
			continue
		}
		blocks, used, spare := a.countLocked(p, now)
		full := now.Before(a.reg.full[p.Name])
		anyone := !p.Manual && len(p.Namespaces) == 0
		first := anyone && !served[family]
		if anyone && (blocks > 0 || !full) {
			served[family] = true
		}
		if full || used == 0 && !first {
			continue
		}
		if blocks == 0 || spare < a.cfg.Spare {
			return p
		}
	}
	return nil
}

// countLocked returns a pool's serving blocks, their used addresses, and how
// many of the blocks are spare.
func (a *Allocator) countLocked(p *Pool, now time.Time) (blocks, used, spare int) {
	for _, h := range a.order {
		if h.pool != p || !h.serves() {
			continue
		}
		blocks++
		used += h.used
		if h.spare(now, a.cfg.Cooldown) {
			spare++
		}
	}
	return blocks, used, spare
}
