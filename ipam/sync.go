package ipam

import (
	"context"
	"errors"
	"slices"
	"time"
)

// sync tells the registry what this node holds, and takes over its answer:
// blocks that are not ours any more are fenced off, blocks that the registry
// has for us and we do not know (our file was lost, or an answer) are adopted.
func (a *Allocator) sync(ctx context.Context) error {
	a.mu.Lock()
	var mine []Block
	for _, h := range a.order {
		mine = append(mine, h.Block)
	}
	a.mu.Unlock()
	cctx, cancel := context.WithTimeout(ctx, a.cfg.ClaimTimeout)
	defer cancel()
	lost, err := a.assertAll(cctx, mine)
	if err != nil {
		return err
	}
	listed, err := a.cfg.Registry.List(cctx, a.cfg.Node)
	if err != nil {
		return err
	}
	if err := a.fence(mine, lost, listed); err != nil {
		return err
	}
	if err := a.accepted(); err != nil {
		return err
	}
	if err := a.adoptListed(listed); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reg.synced = true
	a.reg.syncAt = time.Now().Add(a.cfg.AssertInterval)
	return nil
}

// fence marks held blocks as lost or ours again, as the registry says, and
// forgets lost ones that nobody uses.
func (a *Allocator) fence(mine, lost, listed []Block) error {
	isLost := make(map[Block]bool, len(lost))
	for _, b := range lost {
		isLost[b] = true
	}
	for _, b := range listed {
		for _, l := range lost {
			if l.CIDR == b.CIDR {
				delete(isLost, l) // ours with a newer epoch: adoptListed takes it
			}
		}
	}
	for _, b := range mine {
		todo, drop := a.judge(b, isLost[b])
		if todo == nil {
			continue
		}
		if err := a.submit(todo); err != nil {
			return err
		}
		if drop {
			a.forget(b)
		}
	}
	return nil
}

// judge applies the registry's word to one held block in memory. It returns
// the change for the file, nil when there is none, and whether the block goes.
func (a *Allocator) judge(b Block, lost bool) (todo change, drop bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.blocks[b.CIDR]
	if h == nil || h.Block != b {
		return nil, false
	}
	a.settleDoubtLocked(h)
	switch {
	case lost && h.used == 0 && len(h.barred) == 0:
		h.lost = true
		a.log.Error("lost a block, nobody used it", "block", b.CIDR, "epoch", b.Epoch)
		signal(a.changed)
		return dropBlock(b.CIDR), true
	case lost && !h.lost:
		h.lost = true
		a.log.Error("lost a block that pods use: not announcing it any more", "block", b.CIDR, "epoch", b.Epoch, "used", h.used)
	case !lost && h.lost && !h.leaving:
		h.lost = false
		a.log.Info("block is confirmed again", "block", b.CIDR, "epoch", b.Epoch)
	default:
		return nil, false
	}
	signal(a.changed)
	return saveBlock(h.heldBlock), false
}

// forget removes a block from memory after it left the file.
func (a *Allocator) forget(b Block) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if h := a.blocks[b.CIDR]; h != nil && h.Block == b {
		a.dropBlock(h)
		signal(a.changed)
	}
}

// adoptListed takes over blocks that the registry has for this node.
func (a *Allocator) adoptListed(listed []Block) error {
	for _, b := range listed {
		a.mu.Lock()
		h := a.blocks[b.CIDR]
		known := h != nil && h.Epoch >= b.Epoch
		odd := b.Node != a.cfg.Node || !b.CIDR.IsValid() || b.CIDR.Masked() != b.CIDR || size(b.CIDR) > 4096
		if _, other := a.inTheWayLocked(b); other != nil {
			odd = true
		}
		a.mu.Unlock()
		if odd {
			a.log.Error("registry lists a block that cannot be ours", "block", b.CIDR, "node", b.Node)
			continue
		}
		if known {
			continue
		}
		if err := a.adopt(b); err != nil {
			return err
		}
		a.log.Info("adopted block that the registry has for this node", "block", b.CIDR, "epoch", b.Epoch)
	}
	return nil
}

// giveBack returns blocks that have been empty for long and are not wanted as
// spare ones, and at once those of pools that are gone or disabled.
func (a *Allocator) giveBack(ctx context.Context) {
	for ctx.Err() == nil {
		a.mu.Lock()
		var b Block
		h := a.surplusLocked(time.Now())
		if a.reg.err != nil || !a.reg.synced {
			h = nil
		}
		if h != nil {
			h.leaving = true // serves nobody from here on, and is not announced
			h.lost = true    // also after a crash: the registry may have given it away by then
			b = h.Block
			signal(a.changed)
		}
		a.mu.Unlock()
		if h == nil {
			return
		}
		if err := a.release(ctx, b); err != nil {
			a.log.Warn("block could not be given back", "block", b.CIDR, "err", err)
			return
		}
		a.log.Info("gave block back", "block", b.CIDR, "pool", b.Pool)
	}
}

// release gives one block back: fenced in the file, then out of the registry,
// then out of the file. A crash in between leaves it fenced, and the next sync
// settles it.
func (a *Allocator) release(ctx context.Context, b Block) error {
	if err := a.submit(saveBlock(heldBlock{Block: b, lost: true})); err != nil {
		return err
	}
	cctx, cancel := context.WithTimeout(ctx, a.cfg.ClaimTimeout)
	defer cancel()
	err := a.cfg.Registry.Release(cctx, a.caller(), b)
	a.heard(ctx, err)
	if err != nil && !errors.Is(err, ErrNotOwner) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if h := a.blocks[b.CIDR]; h != nil {
			h.leaving = false // still lost: the next sync asks whose it is
		}
		return err
	}
	if err := a.submit(dropBlock(b.CIDR)); err != nil {
		return err
	}
	a.forget(b)
	return nil
}

// surplusLocked returns a block to give back, or nil: the last in filling
// order first, and never the last one of a pool that serves.
func (a *Allocator) surplusLocked(now time.Time) *held {
	for _, h := range slices.Backward(a.order) {
		if h.lost || h.leaving || h.used > 0 || len(h.barred) > 0 || h.doubt != sure || h.serves() && now.Before(h.promised) {
			continue
		}
		if n, _ := h.cooling(now, a.cfg.Cooldown); n > 0 {
			continue
		}
		if h.pool == nil || h.pool.closed() || a.draining {
			return h
		}
		if len(h.kept) > 0 {
			continue
		}
		blocks, _, spare := a.countLocked(h.pool, now)
		if now.Sub(h.emptySince) >= a.cfg.ReleaseAfter && blocks > 1 && spare > a.cfg.Spare {
			return h
		}
	}
	return nil
}
