package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// registrar is the only part that calls the registry, from one goroutine, so
// that a slow registry delays nothing but new blocks, and no two calls race. It
// tells the registry what the node holds and adopts the answer, claims blocks
// that assigns wait for or that shall be ahead, and gives surplus ones back.
type registrar struct {
	*memory

	cfg  Config
	kick chan struct{} // full: it will look anyway

	// The memory's mutex guards all below.
	orders   []*order
	wanted   []*attempt          // claims to do
	attempts map[target]*attempt // the same, and the one it is at
	reg      registryState
}

func newRegistrar(cfg Config, m *memory) *registrar {
	return &registrar{cfg: cfg, memory: m, kick: make(chan struct{}, 1), attempts: map[target]*attempt{}}
}

// poolsChangedLocked makes the registrar look what the new pools want.
func (r *registrar) poolsChangedLocked() {
	clear(r.reg.full)
	signal(r.kick)
}

// blockFreed asks again for blocks of pools that had none.
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

// expire forgets the workloads that did not come back in time.
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

// refuse notes that the registry takes another machine for the node: nothing is
// given out and nothing announced until it says otherwise.
func (r *registrar) refuse(err error) {
	r.mu.Lock()
	now := time.Now()
	next := footing{standing: refused, why: err, since: r.tenure.since}
	if r.tenure.standing != refused {
		next.since = now
		r.log.Error("the registry rejects this machine", "err", err)
	}
	// As long as the other machine with our database was not heard of since, it
	// may be this one at its old address.
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

// copied says why the database may be a copy of one that is in use: its blocks
// are announced by another machine. A registry that lost its own file does not
// know, and would take this machine for the node.
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

// doubt keeps the registry from being asked for this machine, and says why.
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

// assertAll tells the registry what this node holds. From a machine that is
// gone it takes the name over.
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

// keepIdentity stores that the registry knows this machine, or why it does not,
// when that is news.
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
