package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Assign gives an attachment its addresses and returns when they are durable.
// It is idempotent: an attachment that has addresses gets the same again, with
// the names of the latest request.
//
// An address comes from a held block when one of the pools has any; the registry
// is called only when all are full, for no longer than the claim timeout. Errors:
// [ErrInvalidRequest], [ErrExhausted], [ErrAddressInUse], [ErrBlockTaken] (a
// requested address of another node's block), [ErrClaimFailed] (try again later),
// the error of [Allocator.Standing], [ErrClosed], ctx's error. After the last one
// the address may be assigned; another call, or Release, settles it.
func (a *Allocator) Assign(ctx context.Context, req Request) (Assignment, error) {
	as, err := a.assign(ctx, &req)
	if err != nil {
		return Assignment{}, fmt.Errorf("assign address to %v: %w", req.Handle, err)
	}
	return as, nil
}

func (a *Allocator) assign(ctx context.Context, req *Request) (Assignment, error) {
	if err := req.validate(); err != nil {
		return Assignment{}, err
	}
	failed := map[target]error{} // claims this request has seen fail
	for {
		if err := ctx.Err(); err != nil {
			return Assignment{}, err
		}
		d, err := a.decide(req, failed)
		if err != nil {
			return Assignment{}, err
		}
		if d.claim == nil {
			if err := errors.Join(d.born.waitAny(ctx), d.batch.waitAny(ctx)); err != nil {
				return Assignment{}, err
			}
			return d.result, nil
		}
		select {
		case <-d.claim.done:
			if d.claim.err != nil {
				failed[d.claim.target] = d.claim.err
			}
		case <-ctx.Done():
			return Assignment{}, ctx.Err()
		}
	}
}

// decision is the outcome of one pass over the state: an assignment and the
// batches it becomes durable with, or a claim to wait for before the next pass.
type decision struct {
	result      Assignment
	born, batch *batch
	claim       *attempt
}

// decide assigns the requested addresses in memory, or starts a claim.
func (a *Allocator) decide(req *Request, failed map[target]error) (decision, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.queue.closed != nil {
		return decision{}, a.queue.closed
	}
	if e := a.stock.byHandle[req.Handle]; e != nil {
		b := a.refreshLocked(e, req)
		return decision{result: a.stock.result(e), born: e.born, batch: b}, nil
	}
	if a.tenure.why != nil {
		return decision{}, a.tenure.why
	}
	pools, err := a.stock.eligible(req)
	if err != nil {
		return decision{}, err
	}
	wanted := families(req, pools)
	if kept := a.workloads.pick(req, wanted, pools, a.barredLocked); kept != nil {
		return a.enterLocked(req, kept), nil
	}
	var picked []netip.Addr
	for _, family := range wanted {
		addr, claim, err := a.pickLocked(req, pools, family, failed)
		if err != nil || claim != nil {
			return decision{claim: claim}, err
		}
		picked = append(picked, addr)
	}
	if len(picked) == 0 {
		return decision{}, fmt.Errorf("%w: no enabled pool has a requested family: check the pools", ErrExhausted)
	}
	return a.enterLocked(req, picked), nil
}

// enterLocked records the addresses as assigned.
func (a *Allocator) enterLocked(req *Request, picked []netip.Addr) decision {
	e := &entry{Assignment: Assignment{
		Handle: req.Handle, Addresses: picked, Assigned: time.Now(),
		Netns: req.Netns, Namespace: req.Namespace, Pod: req.Pod, UID: req.UID, HostDevice: req.HostDevice,
	}}
	for _, addr := range picked {
		e.Pools = append(e.Pools, a.stock.poolOf(addr).Name)
	}
	a.stock.add(e)
	a.stats.Assigned++
	todo := a.workloads.hold(e, req.stickyKey())
	e.born = a.queue.addLocked(append(todo, saveAssignment(e.Assignment))...)
	if a.registrar.needsBlockLocked(time.Now()) {
		signal(a.registrar.kick)
	}
	return decision{result: a.stock.result(e), born: e.born}
}

// refreshLocked notes the names of a repeated request when they differ; nil
// when they do not.
func (a *Allocator) refreshLocked(e *entry, req *Request) *batch {
	n := e.Assignment
	n.Netns, n.Namespace, n.Pod, n.UID, n.HostDevice = req.Netns, req.Namespace, req.Pod, req.UID, req.HostDevice
	if n.Netns == e.Netns && n.Namespace == e.Namespace && n.Pod == e.Pod && n.UID == e.UID && n.HostDevice == e.HostDevice {
		return nil
	}
	e.Assignment = n
	return a.queue.addLocked(saveAssignment(n))
}

// families returns which families to assign, true for IPv4, IPv4 first.
func families(req *Request, pools []*Pool) []bool {
	var out []bool
	for _, is4 := range []bool{true, false} {
		isFamily := func(addr netip.Addr) bool { return addr.Is4() == is4 }
		want := req.IPv4
		if !is4 {
			want = req.IPv6
		}
		if !req.IPv4 && !req.IPv6 && len(req.Addresses) == 0 {
			want = slices.ContainsFunc(pools, func(p *Pool) bool { return p.is4() == is4 })
		}
		if want || slices.ContainsFunc(req.Addresses, isFamily) {
			out = append(out, is4)
		}
	}
	return out
}

// pickLocked finds the address of one family, or the claim that may bring one.
// It takes nothing.
func (a *Allocator) pickLocked(req *Request, pools []*Pool, is4 bool, failed map[target]error) (netip.Addr, *attempt, error) {
	for _, addr := range req.Addresses {
		if addr.Is4() == is4 {
			return a.pickExactLocked(req, addr, failed)
		}
	}
	now := time.Now()
	pools = slices.DeleteFunc(slices.Clone(pools), func(p *Pool) bool { return p.is4() != is4 })
	if addr, ok := a.stock.pick(pools, now); ok {
		return addr, nil, nil
	}
	for _, p := range pools {
		t := target{pool: p.Name}
		if errors.Is(failed[t], ErrPoolExhausted) {
			continue
		}
		if err := failed[t]; err != nil {
			return netip.Addr{}, nil, err
		}
		at, err := a.registrar.requestLocked(t)
		return netip.Addr{}, at, err
	}
	return netip.Addr{}, nil, a.stock.exhausted(pools, is4, now)
}

// pickExactLocked checks that a requested address can be had, or claims its
// block.
func (a *Allocator) pickExactLocked(req *Request, addr netip.Addr, failed map[target]error) (netip.Addr, *attempt, error) {
	p := a.stock.poolOf(addr)
	switch {
	case p == nil:
		return addr, nil, fmt.Errorf("%w: address %v is in no pool: pools are %s", ErrInvalidRequest, addr, a.stock.poolNames())
	case p.closed():
		return addr, nil, fmt.Errorf("%w: address %v is in pool %q, which is %s", ErrInvalidRequest, addr, p.Name, p.closedWord())
	case len(req.Pools) > 0 && !slices.Contains(req.Pools, p.Name):
		return addr, nil, fmt.Errorf("%w: address %v is in pool %q, not in %q", ErrInvalidRequest, addr, p.Name, req.Pools)
	}
	if e := a.stock.owner(addr); e != nil {
		return addr, nil, fmt.Errorf("%w: %v is assigned to %v (pod %s/%s)", ErrAddressInUse, addr, e.Handle, e.Namespace, e.Pod)
	}
	if q, barred := a.quarantined.of(addr); barred {
		return addr, nil, fmt.Errorf("%w: %v", ErrAddressInUse, q)
	}
	h := a.stock.blockOf(addr)
	if h != nil && h.lost {
		return addr, nil, fmt.Errorf("%w: %v lies in block %v, which this node has lost", ErrBlockTaken, addr, h.CIDR)
	}
	if h != nil && h.serves() {
		return addr, nil, nil
	}
	t := target{pool: p.Name, block: p.blockOf(addr)}
	if err := failed[t]; err != nil {
		return addr, nil, err
	}
	at, err := a.registrar.requestLocked(t)
	return addr, at, err
}
