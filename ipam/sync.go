package ipam

import (
	"context"
	"errors"
	"slices"
	"time"
)

// sync asserts this node's blocks, and applies the answer: blocks that are not
// ours any more are fenced off, blocks that the registry lists for us and we lack
// (our file was lost, or an answer) are adopted.
func (r *registrar) sync(ctx context.Context) error {
	r.mu.Lock()
	var mine []Block
	for _, h := range r.stock.order {
		mine = append(mine, h.Block)
	}
	r.mu.Unlock()
	cctx, cancel := context.WithTimeout(ctx, r.cfg.ClaimTimeout)
	defer cancel()
	lost, err := r.assertAll(cctx, mine)
	if err != nil {
		return err
	}
	listed, err := r.cfg.Registry.List(cctx, r.cfg.Node)
	if err != nil {
		return err
	}
	if err := r.fence(mine, lost, listed); err != nil {
		return err
	}
	if err := r.accepted(); err != nil {
		return err
	}
	if err := r.adoptListed(listed); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reg.synced = true
	r.reg.syncAt = time.Now().Add(r.cfg.AssertInterval)
	return nil
}

// fence marks held blocks as lost or ours again, as in the registry's answer, and
// forgets lost ones without use.
func (r *registrar) fence(mine, lost, listed []Block) error {
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
		todo, drop := r.judge(b, isLost[b])
		if todo == nil {
			continue
		}
		if err := r.queue.submit(todo); err != nil {
			return err
		}
		if drop {
			r.forget(b)
		}
	}
	return nil
}

// judge applies the registry's answer to one held block in memory. It returns
// the change for the file, nil when there is none, and whether the block goes.
func (r *registrar) judge(b Block, lost bool) (todo change, drop bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.stock.blocks[b.CIDR]
	if h == nil || h.Block != b {
		return nil, false
	}
	r.settleDoubtLocked(h)
	switch {
	case lost && h.used == 0 && len(h.barred) == 0:
		h.lost = true
		r.log.Error("lost an unused block", "block", b.CIDR, "epoch", b.Epoch)
		signal(r.changed)
		return dropBlock(b.CIDR), true
	case lost && !h.lost:
		h.lost = true
		r.log.Error("lost a block that pods use, withdrawing it", "block", b.CIDR, "epoch", b.Epoch, "used", h.used)
	case !lost && h.lost && !h.leaving:
		h.lost = false
		r.log.Info("block is confirmed again", "block", b.CIDR, "epoch", b.Epoch)
	default:
		return nil, false
	}
	signal(r.changed)
	return saveBlock(h.heldBlock), false
}

// forget removes a block from memory after it left the file.
func (r *registrar) forget(b Block) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.stock.blocks[b.CIDR]; h != nil && h.Block == b {
		r.stock.dropBlock(h)
		signal(r.changed)
	}
}

// adoptListed takes over blocks that the registry has for this node.
func (r *registrar) adoptListed(listed []Block) error {
	for _, b := range listed {
		r.mu.Lock()
		h := r.stock.blocks[b.CIDR]
		known := h != nil && h.Epoch >= b.Epoch
		odd := b.Node != r.cfg.Node || !b.CIDR.IsValid() || b.CIDR.Masked() != b.CIDR || size(b.CIDR) > 4096
		if _, other := r.stock.inTheWay(b); other != nil {
			odd = true
		}
		r.mu.Unlock()
		if odd {
			r.log.Error("registry lists an invalid block for this node", "block", b.CIDR, "node", b.Node)
			continue
		}
		if known {
			continue
		}
		if err := r.adopt(b); err != nil {
			return err
		}
		r.log.Info("adopted a block that the registry lists for this node", "block", b.CIDR, "epoch", b.Epoch)
	}
	return nil
}

// giveBack releases blocks that have been empty for long and are not needed as
// spare ones, and at once those of removed or disabled pools.
func (r *registrar) giveBack(ctx context.Context) {
	for ctx.Err() == nil {
		r.mu.Lock()
		var b Block
		h := r.surplusLocked(time.Now())
		if r.reg.err != nil || !r.reg.synced {
			h = nil
		}
		if h != nil {
			h.leaving = true // serves no request from here on, and is not announced
			h.lost = true    // also after a crash: the registry may have given it away by then
			b = h.Block
			signal(r.changed)
		}
		r.mu.Unlock()
		if h == nil {
			return
		}
		if err := r.release(ctx, b); err != nil {
			r.log.Warn("failed to release a block", "block", b.CIDR, "err", err)
			return
		}
		r.log.Info("released a block", "block", b.CIDR, "pool", b.Pool)
	}
}

// release gives one block back: fenced in the file, then out of the registry,
// then out of the file. A crash in between leaves it fenced, and the next sync
// settles it.
func (r *registrar) release(ctx context.Context, b Block) error {
	if err := r.queue.submit(saveBlock(heldBlock{Block: b, lost: true})); err != nil {
		return err
	}
	cctx, cancel := context.WithTimeout(ctx, r.cfg.ClaimTimeout)
	defer cancel()
	err := r.cfg.Registry.Release(cctx, r.caller(), b)
	r.heard(ctx, err)
	if err != nil && !errors.Is(err, ErrNotOwner) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if h := r.stock.blocks[b.CIDR]; h != nil {
			h.leaving = false // still lost: the next sync asks whose it is
		}
		return err
	}
	if err := r.queue.submit(dropBlock(b.CIDR)); err != nil {
		return err
	}
	r.forget(b)
	return nil
}

// surplusLocked returns a block to give back, or nil: the last in filling
// order first, and never the last one of a pool that serves.
func (r *registrar) surplusLocked(now time.Time) *held {
	for _, h := range slices.Backward(r.stock.order) {
		if h.lost || h.leaving || h.used > 0 || len(h.barred) > 0 || h.doubt != sure || h.serves() && now.Before(h.promised) {
			continue
		}
		if n, _ := h.cooling(now, r.cfg.Cooldown); n > 0 {
			continue
		}
		if h.pool == nil || h.pool.closed() || r.draining {
			return h
		}
		if len(h.kept) > 0 {
			continue
		}
		blocks, _, spare := r.stock.count(h.pool, now)
		if now.Sub(h.emptySince) >= r.cfg.ReleaseAfter && blocks > 1 && spare > r.cfg.Spare {
			return h
		}
	}
	return nil
}
