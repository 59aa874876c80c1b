package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// order is a take-over that an operator asked for and waits for.
type order struct {
	from  string
	force bool
	done  chan struct{}
	took  []Block // valid after done
	err   error   // valid after done
}

// TakeOver makes this machine the node that it says it is: node is its own
// name, which another machine holds, or the name in its database, which it had
// before. It returns the blocks that are this node's now. Without force it takes nothing
// from a machine that lives ([HeldError]).
func (a *Allocator) TakeOver(ctx context.Context, node string, force bool) ([]Block, error) {
	o := &order{from: node, force: force, done: make(chan struct{})}
	a.mu.Lock()
	owner, err := a.tenure.identity.Node, a.queue.closed
	switch {
	case err != nil:
	case owner != a.cfg.Node && node != owner:
		err = fmt.Errorf("%w: the database is that of node %q: take that over, or start without it", ErrInvalidRequest, owner)
	case owner == a.cfg.Node && node != owner:
		err = fmt.Errorf("%w: this is node %q and always was: it can only take over its own name; to free the blocks of a dead node use release-node", ErrInvalidRequest, owner)
	default:
		a.registrar.orders = append(a.registrar.orders, o)
		signal(a.registrar.kick)
	}
	a.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("take over node %q: %w", node, err)
	}
	select {
	case <-o.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if o.err != nil {
		return nil, fmt.Errorf("take over node %q: %w", node, o.err)
	}
	return o.took, nil
}

// serveOrders does the take-overs that operators wait for.
func (r *registrar) serveOrders(ctx context.Context) {
	for {
		r.mu.Lock()
		if len(r.orders) == 0 {
			r.mu.Unlock()
			return
		}
		o := r.orders[0]
		r.orders = r.orders[1:]
		r.mu.Unlock()
		o.took, o.err = r.takeOver(ctx, o.from, o.force)
		close(o.done)
	}
}

// takeOver first asks the registry, then makes the database this node's. After
// a crash in between the operator asks again, and finds the first half done.
func (r *registrar) takeOver(ctx context.Context, from string, force bool) ([]Block, error) {
	by := r.caller()
	cctx, cancel := context.WithTimeout(ctx, r.cfg.ClaimTimeout)
	defer cancel()
	took, err := r.cfg.Registry.TakeOver(cctx, by, from, force)
	if err != nil {
		return nil, err
	}
	if err := r.makeOurs(by, took); err != nil {
		return nil, err
	}
	r.log.Warn("took over by an operator's command", "from", from, "node", r.cfg.Node, "blocks", len(took))
	return took, nil
}

// makeOurs renames the database and its blocks. A block that the registry did not give
// was freed while the name was not ours, and may be another node's by now: it counts as
// lost, in the file too, until the next assert settles it. A machine that was trusted
// loses none by this: its registry may have lost its own file.
func (r *registrar) makeOurs(by Caller, took []Block) error {
	given := make(map[netip.Prefix]Block, len(took))
	for _, b := range took {
		given[b.CIDR] = b
	}
	id := identity{Instance: by.Instance, Node: by.Node, Address: by.Address, Address6: by.Address6}
	r.mu.Lock()
	next := map[netip.Prefix]heldBlock{}
	todo := []change{saveIdentity(id)}
	for _, h := range r.stock.order {
		b := h.heldBlock
		b.Node = by.Node
		b.lost = b.lost || r.tenure.standing != trusted
		if g, ok := given[h.CIDR]; ok {
			b = heldBlock{Block: g}
		}
		next[h.CIDR] = b
		todo = append(todo, saveBlock(b))
	}
	r.mu.Unlock()
	if err := r.queue.submit(todo...); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tenure.identity = id
	for _, h := range r.stock.order {
		if b, ok := next[h.CIDR]; ok {
			h.heldBlock = b
		}
	}
	r.tenure.proven = true
	r.setStandingLocked(footing{})
	r.placeLocked() // filling order is by epoch
	r.reg.syncAt, r.reg.retryAt = time.Time{}, time.Time{}
	return nil
}
