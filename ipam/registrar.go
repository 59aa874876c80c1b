package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// registrar is the only part that calls the registry, from one goroutine, so that
// a slow registry delays nothing but new blocks, and no two calls race. It asserts
// the node's blocks and adopts the answer, claims blocks that assigns wait for or
// that are kept ahead, and releases surplus ones.
type registrar struct {
	*memory

	cfg   Config // its Registry is timed
	timed *timed
	kick  chan struct{} // full: a run is pending already

	// The memory's mutex guards all below.
	orders   []*order
	wanted   []*attempt          // claims to do
	attempts map[target]*attempt // the same, and the one it is at
	reg      registryState
}

func newRegistrar(cfg Config, m *memory) *registrar {
	t := &timed{Registry: cfg.Registry}
	cfg.Registry = t
	return &registrar{cfg: cfg, timed: t, memory: m, kick: make(chan struct{}, 1), attempts: map[target]*attempt{}}
}

// poolsChangedLocked makes the registrar check the needs of the new pools.
func (r *registrar) poolsChangedLocked() {
	clear(r.reg.full)
	signal(r.kick)
}

// blockFreed claims again from pools that had no block.
func (r *registrar) blockFreed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.reg.full) > 0 {
		r.poolsChangedLocked()
	}
}

// closeLocked ends the claims and orders that are not served any more.
func (r *registrar) closeLocked(err error) {
	for _, t := range r.attempts {
		t.finish(err)
	}
	r.wanted = nil
	clear(r.attempts)
	for _, o := range r.orders {
		o.err = err
		close(o.done)
	}
	r.orders = nil
}

// expire forgets the workloads that did not return in time.
func (r *registrar) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queue.closed != nil {
		return
	}
	if todo := r.workloads.expire(); len(todo) > 0 {
		r.queue.addLocked(todo...)
	}
}

// settleDoubtLocked ends the doubt about a block that the registry has
// confirmed or denied.
func (r *registrar) settleDoubtLocked(h *held) {
	if r.doubts.settle(h) {
		signal(r.changed)
	}
}

// moved is tenure.moved under the mutex.
func (r *registrar) moved(holder Holder) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tenure.moved(&r.stock.index, holder)
}

// accepted notes that the registry takes this machine for the node.
func (r *registrar) accepted() error {
	r.mu.Lock()
	if r.tenure.standing != trusted {
		r.log.Info("the registry confirmed this machine", "node", r.cfg.Node)
		r.setStandingLocked(footing{})
	}
	r.tenure.proven = true
	r.mu.Unlock()
	return r.keepIdentity("")
}

// refuse records that another machine holds the node's name: nothing is assigned
// and nothing announced until the registry confirms this one.
func (r *registrar) refuse(err error) {
	r.mu.Lock()
	now := time.Now()
	next := footing{standing: refused, why: err, since: r.tenure.since}
	if r.tenure.standing != refused {
		next.since = now
		r.log.Error("the registry rejects this machine", "err", err)
	}
	// As long as the other machine with our database did not call since, it may
	// be this one at its old address.
	var held *HeldError
	next.moving = errors.As(err, &held) && held.Holder.Instance == held.By.Instance &&
		now.Add(-held.Age).Before(next.since.Add(time.Second))
	if next.moving {
		next.why = fmt.Errorf("%w (%s)", err, movingText)
	}
	r.reg.synced = false
	r.reg.syncAt = now.Add(min(refusedRetry, r.cfg.AssertInterval))
	r.setStandingLocked(next)
	r.mu.Unlock()
	if next.moving {
		return
	}
	if kerr := r.keepIdentity(err.Error()); kerr != nil {
		r.log.Warn("failed to store the rejection", "err", kerr)
	}
}

// copied returns why the database may be a copy of one that is in use: another
// machine announces its blocks. A registry that lost its own file cannot detect
// that, and would accept this machine as the node.
func (r *registrar) copied(ctx context.Context) string {
	r.mu.Lock()
	suspect := r.tenure.standing == unproven && !r.tenure.livesAny(&r.stock.index)
	blocks := make([]netip.Prefix, len(r.stock.order))
	for i, h := range r.stock.order {
		blocks[i] = h.CIDR
	}
	r.mu.Unlock()
	if !suspect || r.cfg.Announced == nil || len(blocks) == 0 {
		return ""
	}
	return r.cfg.Announced(ctx, blocks)
}

// doubt keeps this machine from calling the registry, and records the reason.
func (r *registrar) doubt(who string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.tenure.footing
	next.why = fmt.Errorf("%w; %s; if another machine has the same database, stop this one, move onlink.db away and start it "+
		"under a name of its own; if this one has replaced it, run here: onlinkctl ipam take-over %s", next.doubt, who, r.cfg.Node)
	if r.tenure.why == nil || r.tenure.why.Error() != next.why.Error() {
		r.log.Warn("the registry has not confirmed this machine yet", "reason", next.why)
		r.setStandingLocked(next)
	}
	r.reg.syncAt = time.Now().Add(min(refusedRetry, r.cfg.AssertInterval))
}

// assertAll asserts this node's blocks. It takes the name over from a silent
// machine.
func (r *registrar) assertAll(ctx context.Context, held []Block) (lost []Block, err error) {
	by := r.caller()
	lost, err = r.cfg.Registry.Assert(ctx, by, held)
	var other *HeldError
	if !errors.As(err, &other) || !other.Silent {
		return lost, err
	}
	blocks, lerr := r.cfg.Registry.List(ctx, r.cfg.Node)
	if lerr != nil {
		return nil, lerr
	}
	if r.cfg.Announced != nil && len(blocks) > 0 && !r.moved(other.Holder) {
		if who := r.cfg.Announced(ctx, cidrs(blocks)); who != "" {
			known := *other
			known.Why = who
			return nil, fmt.Errorf("assert blocks: %w", &known)
		}
	}
	if _, err := r.cfg.Registry.TakeOver(ctx, by, r.cfg.Node, false); err != nil {
		return nil, err
	}
	r.log.Warn("took the name over from a dead machine", "node", r.cfg.Node, "address", other.Holder.Where(), "silent_for", other.Age)
	return r.cfg.Registry.Assert(ctx, by, held)
}

func cidrs(blocks []Block) []netip.Prefix {
	out := make([]netip.Prefix, len(blocks))
	for i, b := range blocks {
		out[i] = b.CIDR
	}
	return out
}

// caller is how this machine calls itself to the registry.
func (r *registrar) caller() Caller {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Caller{
		Node: r.cfg.Node, Instance: r.tenure.identity.Instance, Address: r.cfg.Address, Address6: r.cfg.Address6, Period: r.cfg.AssertInterval,
	}
}

// keepIdentity stores that the registry confirmed this machine, or why it did
// not, when that has changed.
func (r *registrar) keepIdentity(refused string) error {
	r.mu.Lock()
	id := r.tenure.identity
	id.Refused = refused
	if refused == "" {
		id.Address, id.Address6 = r.cfg.Address, r.cfg.Address6
	}
	same := id == r.tenure.identity || refused != "" && r.tenure.identity.Refused != "" // its age alone is no news
	r.mu.Unlock()
	if same {
		return nil
	}
	if err := r.queue.submit(saveIdentity(id)); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tenure.identity = id
	return nil
}
