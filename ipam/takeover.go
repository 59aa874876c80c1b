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
	owner, err := a.identity.Node, a.closed
	switch {
	case err != nil:
	case owner != a.cfg.Node && node != owner:
		err = fmt.Errorf("%w: the database is that of node %q: take that over, or start without it", ErrInvalidRequest, owner)
	case owner == a.cfg.Node && node != owner:
		err = fmt.Errorf("%w: this is node %q and always was: it can take over its own name; to free the blocks of a dead node use release-node", ErrInvalidRequest, owner)
	default:
		a.orders = append(a.orders, o)
		signal(a.kick)
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
func (a *Allocator) serveOrders(ctx context.Context) {
	for {
		a.mu.Lock()
		if len(a.orders) == 0 {
			a.mu.Unlock()
			return
		}
		o := a.orders[0]
		a.orders = a.orders[1:]
		a.mu.Unlock()
		o.took, o.err = a.takeOver(ctx, o.from, o.force)
		close(o.done)
	}
}

// takeOver first asks the registry, then makes the database this node's. After
// a crash in between the operator asks again, and finds the first half done.
func (a *Allocator) takeOver(ctx context.Context, from string, force bool) ([]Block, error) {
	by := a.caller()
	cctx, cancel := context.WithTimeout(ctx, a.cfg.ClaimTimeout)
	defer cancel()
	took, err := a.cfg.Registry.TakeOver(cctx, by, from, force)
	if err != nil {
		return nil, err
	}
	if err := a.makeOurs(by, took); err != nil {
		return nil, err
	}
	a.log.Warn("took over, as an operator asked", "from", from, "node", a.cfg.Node, "blocks", len(took))
	return took, nil
}

// makeOurs renames the database and its blocks. What the registry did not give
// is left to the next assert.
func (a *Allocator) makeOurs(by Caller, took []Block) error {
	given := make(map[netip.Prefix]Block, len(took))
	for _, b := range took {
		given[b.CIDR] = b
	}
	id := identity{Instance: by.Instance, Node: by.Node, Address: by.Address, Address6: by.Address6}
	a.mu.Lock()
	todo := []change{saveIdentity(id)}
	for _, h := range a.order {
		next := h.heldBlock
		next.Node = by.Node
		if b, ok := given[h.CIDR]; ok {
			next = heldBlock{Block: b}
		}
		todo = append(todo, saveBlock(next))
	}
	a.mu.Unlock()
	if err := a.submit(todo...); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.identity = id
	for _, h := range a.order {
		h.Node = by.Node
		if b, ok := given[h.CIDR]; ok {
			h.heldBlock = heldBlock{Block: b}
		}
	}
	a.proven = true
	a.setStandingLocked(footing{})
	a.placeLocked() // filling order is by epoch
	a.reg.syncAt, a.reg.retryAt = time.Time{}, time.Time{}
	return nil
}
