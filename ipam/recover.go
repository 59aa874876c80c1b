package ipam

import (
	"fmt"
	"net/netip"
	"time"
)

// recoveredEpoch is the epoch of a block that is known only from the pods in
// it: below every epoch a registry has given, so that whoever has a real claim
// wins, and the registry's own entry for this node replaces it.
const recoveredEpoch = 1

// Recover enters the addresses of running pods that the file does not know,
// because it was lost or an older copy was restored, and the blocks around
// them. It is called between [New] and [Allocator.Run]; the next assert tells
// the registry of the blocks.
//
// It returns what it entered, and one error for every pod that cannot be
// entered: its address is assigned to another attachment, or lies in no pool.
func (a *Allocator) Recover(pods []Assignment) (entered []Assignment, refused []error, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var todo []change
	blocks := map[netip.Prefix]bool{}
	taken := map[netip.Addr]Handle{}
	for _, as := range pods {
		if a.byHandle[as.Handle] != nil {
			continue
		}
		if err := a.recoverableLocked(as, taken); err != nil {
			refused = append(refused, fmt.Errorf("recover addresses of %v (pod %s/%s): %w", as.Handle, as.Namespace, as.Pod, err))
			continue
		}
		as = as.clone()
		as.Pools, as.Assigned = nil, time.Now()
		for _, addr := range as.Addresses {
			taken[addr] = as.Handle
			p := a.poolOfLocked(addr)
			as.Pools = append(as.Pools, p.Name)
			if b := p.blockOf(addr); a.blockOf(addr) == nil && !blocks[b] && !a.overlapsHeldLocked(b) {
				blocks[b] = true
				todo = append(todo, saveBlock(heldBlock{Block: Block{CIDR: b, Pool: p.Name, Node: a.cfg.Node, Epoch: recoveredEpoch}}))
			}
		}
		todo = append(todo, saveAssignment(as))
		entered = append(entered, as)
	}
	if len(todo) == 0 {
		return nil, refused, nil
	}
	if err := a.cfg.Store.commit(todo); err != nil {
		return nil, refused, fmt.Errorf("recover assignments: %w", err)
	}
	if err := a.reloadLocked(); err != nil {
		return nil, refused, fmt.Errorf("recover assignments: %w", err)
	}
	return entered, refused, nil
}

// recoverableLocked says why an assignment cannot be entered.
func (a *Allocator) recoverableLocked(as Assignment, taken map[netip.Addr]Handle) error {
	if err := as.Handle.validate(); err != nil {
		return err
	}
	if len(as.Addresses) == 0 || len(as.Addresses) > 2 {
		return fmt.Errorf("%w: it has %d addresses, want 1 or 2", ErrInvalidRequest, len(as.Addresses))
	}
	for _, addr := range as.Addresses {
		if e := a.owner(addr); e != nil {
			return fmt.Errorf("%w: %v is assigned to %v (pod %s/%s): delete one of the two pods", ErrAddressInUse, addr, e.Handle, e.Namespace, e.Pod)
		}
		if h, ok := taken[addr]; ok {
			return fmt.Errorf("%w: %v is also the address of %v: delete one of the two pods", ErrAddressInUse, addr, h)
		}
		if a.poolOfLocked(addr) == nil {
			return fmt.Errorf("%w: address %v is in no pool: delete the pod, or add the pool again", ErrInvalidRequest, addr)
		}
	}
	return nil
}

// overlapsHeldLocked reports whether a held block shares an address with p.
func (a *Allocator) overlapsHeldLocked(p netip.Prefix) bool {
	for _, h := range a.order {
		if h.CIDR.Overlaps(p) {
			return true
		}
	}
	return false
}
