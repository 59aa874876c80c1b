package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Bounds of the wait after a registry that could not be reached, and the waits
// before the next claim of a spare block from a pool without free blocks or a
// registry that settles.
const (
	retryFirst  = 200 * time.Millisecond
	retryLast   = 5 * time.Second
	fullRetry   = 30 * time.Second
	settleRetry = 5 * time.Second
)

// promiseTime is how long a block that an assign waited for is not released.
const promiseTime = 10 * time.Second

// target is the subject of a claim: any block of a pool, or exactly one.
type target struct {
	pool  string
	block netip.Prefix
}

// attempt is one claim that assigns wait for together.
type attempt struct {
	target
	done chan struct{} // closed by whoever takes it off registrar.attempts
	err  error         // valid after done
}

func (t *attempt) finish(err error) {
	t.err = err
	close(t.done)
}

// registryState is the registrar's memory of the registry.
type registryState struct {
	err     error         // of the last call; nil: it answered
	retryAt time.Time     // before it, claims are refused with err
	backoff time.Duration // the next wait
	syncAt  time.Time     // when to assert the held blocks again
	synced  bool          // the registry has confirmed them once in this run
	full    map[string]time.Time
}

// requestLocked joins or starts a claim. While the registry is known to be out
// of reach it returns [ErrClaimFailed] at once.
func (r *registrar) requestLocked(t target) (*attempt, error) {
	if at := r.attempts[t]; at != nil {
		return at, nil
	}
	if left := time.Until(r.reg.retryAt); r.reg.err != nil && left > 0 {
		return nil, fmt.Errorf("%w: held blocks are full and the registry does not answer, next try in %v: %w",
			ErrClaimFailed, left.Round(time.Millisecond), r.reg.err)
	}
	at := &attempt{target: t, done: make(chan struct{})}
	r.attempts[t] = at
	r.wanted = append(r.wanted, at)
	signal(r.kick)
	return at, nil
}

// run does the due work until ctx ends.
func (r *registrar) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.kick:
		}
		timer.Reset(r.tend(ctx))
	}
}

// tend does the due work and returns the time until its next call.
func (r *registrar) tend(ctx context.Context) time.Duration {
	r.serveOrders(ctx)
	r.mu.Lock()
	others := r.tenure.standing == foreign
	due := !time.Now().Before(r.reg.syncAt) && !time.Now().Before(r.reg.retryAt)
	r.mu.Unlock()
	if others { // the database is another node's: no answer about this one would match it
		return r.cfg.AssertInterval
	}
	if due {
		r.expire()
		r.assertDue(ctx)
	}
	r.serveWanted(ctx, due)
	r.prefetch(ctx)
	r.giveBack(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reg.err != nil {
		return max(time.Until(r.reg.retryAt), retryFirst)
	}
	return min(max(time.Until(r.reg.syncAt), retryFirst), r.cfg.AssertInterval/2+retryFirst)
}

// assertDue asserts this node's blocks, unless the database may be a copy of one
// that is in use.
func (r *registrar) assertDue(ctx context.Context) {
	if who := r.copied(ctx); who != "" {
		r.doubt(who)
		return
	}
	err := r.sync(ctx)
	r.heard(ctx, err)
	switch {
	case ctx.Err() != nil:
	case refusal(err):
		r.refuse(err)
	case errors.Is(err, ErrSettling):
		r.mu.Lock()
		r.reg.syncAt = time.Now().Add(min(settleRetry, r.cfg.AssertInterval))
		r.mu.Unlock()
	}
}

// serveWanted does the claims that assigns wait for. After a sync that has just
// failed they fail too, without another try.
func (r *registrar) serveWanted(ctx context.Context, synced bool) {
	for {
		r.mu.Lock()
		if len(r.wanted) == 0 {
			r.mu.Unlock()
			return
		}
		at := r.wanted[0]
		r.wanted = r.wanted[1:]
		err, served := r.reg.err, r.stock.serves(at.target)
		r.mu.Unlock()
		switch {
		case served:
			err = nil
		case err == nil || !synced:
			err = r.claim(ctx, at.target)
		}
		r.mu.Lock()
		delete(r.attempts, at.target)
		if err == nil {
			r.stock.promise(at.target)
		}
		at.finish(claimError(err))
		r.mu.Unlock()
	}
}

// claimError marks an error as one of claiming, except the registry's own
// answers.
func claimError(err error) error {
	if err == nil || errors.Is(err, ErrPoolExhausted) || errors.Is(err, ErrBlockTaken) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrClaimFailed, err)
}

// answered reports whether err is an answer of the registry itself.
func answered(err error) bool {
	return err == nil || errors.Is(err, ErrPoolExhausted) || errors.Is(err, ErrBlockTaken) ||
		errors.Is(err, ErrNotOwner) || errors.Is(err, ErrSettling) || refusal(err)
}

// heard records the outcome of a call to the registry. Only a registry that did
// not answer makes the next call wait.
func (r *registrar) heard(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // stopping: no outcome of the registry
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if answered(err) {
		if r.reg.err != nil {
			r.log.Info("block registry answers again")
		}
		r.reg.err, r.reg.backoff, r.reg.retryAt = nil, 0, time.Time{}
		return
	}
	if r.reg.err == nil {
		r.log.Warn("block registry does not answer, using held blocks", "err", err)
	}
	r.stats.RegistryErrors++
	r.reg.backoff = min(max(2*r.reg.backoff, retryFirst), retryLast)
	r.reg.err, r.reg.retryAt = err, time.Now().Add(r.reg.backoff)
	r.reg.syncAt = time.Time{} // a lost answer may hide a block that is ours now
}

// claim gets a block, makes it durable, and serves from it.
func (r *registrar) claim(ctx context.Context, t target) error {
	r.mu.Lock()
	var pool *Pool
	for i := range r.stock.pools {
		if r.stock.pools[i].Name == t.pool && !r.stock.pools[i].closed() {
			p := r.stock.pools[i]
			pool = &p
		}
	}
	unproven, why := r.tenure.standing == unproven, r.tenure.why
	r.mu.Unlock()
	if pool == nil {
		return fmt.Errorf("%w: pool %q is removed or disabled", ErrInvalidRequest, t.pool)
	}
	if unproven { // a claim would make this machine the node, as an assert does
		return why
	}
	cctx, cancel := context.WithTimeout(ctx, r.cfg.ClaimTimeout)
	defer cancel()
	b, err := r.cfg.Registry.Claim(cctx, ClaimRequest{
		Caller: r.caller(), Pool: pool.Name, PoolCIDR: pool.CIDR, BlockSize: pool.BlockSize, Reserved: pool.Reserved, Block: t.block,
	})
	if err == nil && (b.Node != r.cfg.Node || b.CIDR.Masked() != b.CIDR || !insideAny(b.CIDR, []netip.Prefix{pool.CIDR}) ||
		b.CIDR.Bits() != pool.BlockSize || t.block.IsValid() && b.CIDR != t.block) {
		err = fmt.Errorf("registry answered with %v of node %q", b.CIDR, b.Node)
	}
	r.heard(ctx, err)
	if err != nil {
		r.noteFull(pool.Name, err)
		if errors.Is(err, ErrRefused) {
			r.refuse(err)
		}
		return err
	}
	if err := r.adopt(b); err != nil {
		return err
	}
	r.log.Info("claimed block", "block", b.CIDR, "pool", b.Pool, "epoch", b.Epoch)
	return nil
}

// noteFull notes for prefetch that a pool gives no block for a while.
func (r *registrar) noteFull(pool string, err error) {
	wait := fullRetry
	switch {
	case errors.Is(err, ErrSettling):
		wait = settleRetry
	case !errors.Is(err, ErrPoolExhausted):
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reg.full == nil {
		r.reg.full = map[string]time.Time{}
	}
	r.reg.full[pool] = time.Now().Add(wait)
}

// adopt serves from a block that the registry lists as ours.
func (r *registrar) adopt(b Block) error {
	r.mu.Lock()
	instead, other := r.stock.inTheWay(b)
	r.mu.Unlock()
	if other != nil {
		return fmt.Errorf("%w: block %v overlaps %v, which this node holds", ErrBlockTaken, b.CIDR, other.CIDR)
	}
	var todo []change
	for _, h := range instead {
		todo = append(todo, dropBlock(h.CIDR))
	}
	if err := r.queue.submit(append(todo, saveBlock(heldBlock{Block: b}))...); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range instead {
		delete(r.doubts, h.CIDR)
		r.stock.dropBlock(h)
	}
	if h := r.stock.blocks[b.CIDR]; h != nil {
		h.heldBlock = heldBlock{Block: b}
	} else {
		r.stock.addBlock(newHeld(heldBlock{Block: b}, time.Now()))
		for _, s := range r.workloads.all { // the block may have been ours before
			r.workloads.keep(s)
		}
	}
	r.settleDoubtLocked(r.stock.blocks[b.CIDR])
	r.placeLocked()
	r.quarantined.apply()
	r.stats.Claims++
	signal(r.changed)
	return nil
}

// prefetch claims the blocks that the node keeps ahead.
func (r *registrar) prefetch(ctx context.Context) {
	for ctx.Err() == nil {
		r.mu.Lock()
		p := r.wantsLocked(time.Now())
		if r.reg.err != nil || !r.reg.synced {
			p = nil // a claim now could miss a block that is ours already
		}
		r.mu.Unlock()
		if p == nil {
			return
		}
		err := r.claim(ctx, target{pool: p.Name})
		if err != nil && !errors.Is(err, ErrPoolExhausted) && !errors.Is(err, ErrSettling) {
			return
		}
	}
}

// needsBlockLocked reports whether prefetch has something to do.
func (r *registrar) needsBlockLocked(now time.Time) bool { return r.wantsLocked(now) != nil }

// wantsLocked returns a pool of which a block should be claimed: one that is in
// use and has no spare block, or of each family the first automatic one, so
// that the node has a block to announce before its first pod.
func (r *registrar) wantsLocked(now time.Time) *Pool {
	if r.draining {
		return nil
	}
	var served [2]bool // by family: a pool before this one will do
	for i := range r.stock.pools {
		p := &r.stock.pools[i]
		family := 0
		if p.is4() {
			family = 1
		}
		if p.closed() {
			continue
		}
		blocks, used, spare := r.stock.count(p, now)
		full := now.Before(r.reg.full[p.Name])
		anyone := !p.Manual && len(p.Namespaces) == 0
		first := anyone && !served[family]
		if anyone && (blocks > 0 || !full) {
			served[family] = true
		}
		if full || used == 0 && !first {
			continue
		}
		if blocks == 0 || spare < r.cfg.Spare {
			return p
		}
	}
	return nil
}
