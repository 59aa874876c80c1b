package ipam

import (
	"net/netip"
	"time"
)

// slotState says what an address of a block is doing.
type slotState uint8

const (
	slotNever slotState = iota // not assigned since the block was claimed
	slotUsed
	slotFreed // cooling down, or free again
)

// slot is one address of a held block.
type slot struct {
	state slotState
	turn  uint32 // counts frees, to tell the entries of freedSlot apart
}

// freedSlot is an entry of a block's queue of freed addresses. It is stale when
// the slot has moved on (state or turn).
type freedSlot struct {
	ord  int
	turn uint32
	at   time.Time
}

// held is a block of this node in memory. The allocator's mutex guards it.
type held struct {
	heldBlock
	pool *Pool // the configured pool it lies in; nil when that is gone
	// leaving is set while the block is given back: it serves nobody.
	leaving bool

	slots      []slot
	used       int
	next       int               // all slots below were taken once
	freed      []freedSlot       // oldest first
	kept       map[int]time.Time // free slots that are a workload's, and until when
	emptySince time.Time         // valid while used is 0
}

func newHeld(b heldBlock, now time.Time) *held {
	return &held{heldBlock: b, slots: make([]slot, size(b.CIDR)), emptySince: now}
}

// serves reports whether the block may give new addresses.
func (h *held) serves() bool {
	return !h.lost && !h.leaving && h.pool != nil && !h.pool.closed()
}

// confirmed reports whether the block is the node's to announce.
func (h *held) confirmed() bool { return !h.lost && !h.leaving }

// pick returns the slot to assign next: one that was never used, else the one
// that was freed longest ago, when that has cooled down.
func (h *held) pick(now time.Time, cooldown time.Duration) (int, bool) {
	if h.used == len(h.slots) {
		return 0, false
	}
	for n := h.next; n < len(h.slots); n++ {
		if h.slots[n].state == slotNever && !h.pool.reserves(addrAt(h.CIDR, n)) {
			if h.keeps(n, now) {
				continue
			}
			return n, true
		}
		if n == h.next {
			h.next++ // taken or reserved; [Allocator.SetPools] starts over
		}
	}
	h.trim()
	for _, f := range h.freed {
		if h.stale(f) {
			continue
		}
		if now.Sub(f.at) < cooldown {
			return 0, false // the ones behind it were freed later
		}
		if !h.pool.reserves(addrAt(h.CIDR, f.ord)) && !h.keeps(f.ord, now) {
			return f.ord, true
		}
	}
	return 0, false
}

// keeps reports whether a slot is kept for a workload.
func (h *held) keeps(ord int, now time.Time) bool { return now.Before(h.kept[ord]) }

func (h *held) stale(f freedSlot) bool {
	s := h.slots[f.ord]
	return s.state != slotFreed || s.turn != f.turn
}

// trim drops stale entries from the queue's head.
func (h *held) trim() {
	n := 0
	for n < len(h.freed) && h.stale(h.freed[n]) {
		n++
	}
	h.freed = h.freed[n:]
}

// take marks a slot as used.
func (h *held) take(ord int) {
	h.slots[ord].state = slotUsed
	h.used++
}

// free marks a used slot as free since at; calls come in order of at.
func (h *held) free(ord int, at time.Time) {
	s := &h.slots[ord]
	if s.state == slotUsed {
		h.used--
	}
	s.state = slotFreed
	s.turn++
	if len(h.freed) >= 2*len(h.slots) {
		live := make([]freedSlot, 0, len(h.slots)+1)
		for _, f := range h.freed {
			if !h.stale(f) {
				live = append(live, f)
			}
		}
		h.freed = live
	}
	h.freed = append(h.freed, freedSlot{ord: ord, turn: s.turn, at: at})
	if h.used == 0 {
		h.emptySince = at
	}
}

// cooling returns how many addresses were freed less than cooldown ago, and
// how long the first of them still takes.
func (h *held) cooling(now time.Time, cooldown time.Duration) (n int, first time.Duration) {
	for _, f := range h.freed {
		if h.stale(f) {
			continue
		}
		if left := cooldown - now.Sub(f.at); left > 0 {
			if n == 0 {
				first = left
			}
			n++
		}
	}
	return n, first
}

// spare reports whether the block is one that was claimed ahead: empty, and
// most of it can be assigned at once.
func (h *held) spare(now time.Time, cooldown time.Duration) bool {
	if h.used != 0 || !h.serves() {
		return false
	}
	n, _ := h.cooling(now, cooldown)
	return n*2 < len(h.slots)
}

// index is what the allocator knows of the node: blocks and assignments. Its
// owner's mutex guards it.
type index struct {
	blocks   map[netip.Prefix]*held
	order    []*held     // as they are filled: by pool's place, then claim
	lengths  map[int]int // prefix length -> number of blocks that have it
	byHandle map[Handle]*entry
	byAddr   map[netip.Addr]*entry
}

// entry is an assignment in memory.
type entry struct {
	Assignment
	born *batch // that made it durable; nil when it was loaded
}

// blockOf returns the held block that addr lies in, or nil.
func (x *index) blockOf(addr netip.Addr) *held {
	for n := range x.lengths {
		if n > 32 == addr.Is4() {
			continue // the lengths of the families are apart, see Pool
		}
		p, err := addr.Prefix(n)
		if err != nil {
			continue
		}
		if h := x.blocks[p]; h != nil {
			return h
		}
	}
	return nil
}

// addBlock adds a block, which overlaps none.
func (x *index) addBlock(h *held) {
	x.blocks[h.CIDR] = h
	x.lengths[h.CIDR.Bits()]++
	x.order = append(x.order, h)
	for n := range h.slots { // addresses that outlived an earlier claim of it
		if x.byAddr[addrAt(h.CIDR, n)] != nil {
			h.take(n)
		}
	}
}

// dropBlock removes a block.
func (x *index) dropBlock(h *held) {
	delete(x.blocks, h.CIDR)
	if x.lengths[h.CIDR.Bits()]--; x.lengths[h.CIDR.Bits()] == 0 {
		delete(x.lengths, h.CIDR.Bits())
	}
	for i, o := range x.order {
		if o == h {
			x.order = append(x.order[:i:i], x.order[i+1:]...)
			return
		}
	}
}

// add enters an assignment and takes its addresses.
func (x *index) add(e *entry) {
	x.byHandle[e.Handle] = e
	for _, addr := range e.Addresses {
		x.byAddr[addr] = e
		if h := x.blockOf(addr); h != nil {
			h.take(ordinal(h.CIDR, addr))
		}
	}
}

// remove takes an assignment out and frees its addresses.
func (x *index) remove(e *entry, at time.Time) {
	delete(x.byHandle, e.Handle)
	for _, addr := range e.Addresses {
		delete(x.byAddr, addr)
		if h := x.blockOf(addr); h != nil {
			h.free(ordinal(h.CIDR, addr), at)
		}
	}
}
