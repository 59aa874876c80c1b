package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// slotState is the state of an address of a block.
type slotState uint8

const (
	slotNever slotState = iota // not assigned since the block was claimed
	slotUsed
	slotFreed // cooling down, or free again
)

// slot is one address of a held block.
type slot struct {
	owner *entry // nil unless state is slotUsed
	turn  uint32 // counts frees, to distinguish the entries of freedSlot
	state slotState
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
	pool *Pool // the configured pool it lies in; nil when that was removed
	// leaving is set while the block is released: it serves no request.
	leaving bool
	doubt   doubt // whether it is the node's at all
	// withheld and hidden follow from the machine's standing: it gives no new
	// address, and does not announce the block.
	withheld, hidden bool

	slots      []slot
	used       int
	next       int               // all slots below were taken once
	freed      []freedSlot       // oldest first
	kept       map[int]time.Time // free slots that are a workload's, and until when
	barred     map[int]bool      // slots that are quarantined
	emptySince time.Time         // valid while used is 0
	promised   time.Time         // until then it is not released
}

func newHeld(b heldBlock, now time.Time) *held {
	return &held{heldBlock: b, slots: make([]slot, size(b.CIDR)), emptySince: now}
}

// serves reports whether the block may give new addresses.
func (h *held) serves() bool {
	return !h.lost && !h.leaving && !h.withheld && h.doubt == sure && h.pool != nil && !h.pool.closed()
}

// confirmed reports whether the block is the node's to announce.
func (h *held) confirmed() bool { return !h.lost && !h.leaving && !h.hidden && h.doubt != denied }

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

// keeps reports whether a slot is reserved for a workload, or barred.
func (h *held) keeps(ord int, now time.Time) bool { return h.barred[ord] || now.Before(h.kept[ord]) }

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

// take marks a slot as e's.
func (h *held) take(ord int, e *entry) {
	h.slots[ord].state, h.slots[ord].owner = slotUsed, e
	h.used++
}

// free marks a used slot as free since at; calls come in order of at.
func (h *held) free(ord int, at time.Time) {
	s := &h.slots[ord]
	if s.state == slotUsed {
		h.used--
	}
	s.state, s.owner = slotFreed, nil
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

// index has the allocator's blocks and assignments. Its owner's mutex guards it.
// An address's owner is kept in its block's slot.
type index struct {
	blocks   map[netip.Prefix]*held
	order    []*held  // as they are filled: by pool's place, then claim
	lengths  []length // that the blocks have
	byHandle map[Handle]*entry
	strays   map[netip.Addr]*entry // assigned addresses outside the held blocks
}

// length is a prefix length and how many blocks have it.
type length struct{ bits, blocks int }

// newIndex returns an empty index with room for so many.
func newIndex(blocks, assignments int) index {
	return index{
		blocks:   make(map[netip.Prefix]*held, blocks),
		byHandle: make(map[Handle]*entry, assignments), strays: map[netip.Addr]*entry{},
	}
}

// entry is an assignment in memory.
type entry struct {
	Assignment
	born *batch // that made it durable; nil when it was loaded
}

// blockOf returns the held block that addr lies in, or nil.
func (x *index) blockOf(addr netip.Addr) *held {
	for _, l := range x.lengths { // one or two; a map costs more than the search
		if l.bits > 32 == addr.Is4() {
			continue // the lengths of the families are apart, see Pool
		}
		p, err := addr.Prefix(l.bits)
		if err != nil {
			continue
		}
		if h := x.blocks[p]; h != nil {
			return h
		}
	}
	return nil
}

// length returns the place of h's prefix length, or -1.
func (x *index) length(h *held) int {
	return slices.IndexFunc(x.lengths, func(l length) bool { return l.bits == h.CIDR.Bits() })
}

// owner returns the entry that has addr, or nil.
func (x *index) owner(addr netip.Addr) *entry {
	if h := x.blockOf(addr); h != nil {
		return h.slots[ordinal(h.CIDR, addr)].owner
	}
	return x.strays[addr]
}

// addBlock adds a block, which overlaps none.
func (x *index) addBlock(h *held) {
	x.blocks[h.CIDR] = h
	if i := x.length(h); i < 0 {
		x.lengths = append(x.lengths, length{bits: h.CIDR.Bits(), blocks: 1})
	} else {
		x.lengths[i].blocks++
	}
	x.order = append(x.order, h)
	for addr, e := range x.strays { // addresses that outlived an earlier claim of it
		if h.CIDR.Contains(addr) {
			h.take(ordinal(h.CIDR, addr), e)
			delete(x.strays, addr)
		}
	}
}

// dropBlock removes a block. Addresses of it that are in use stay their
// owners'.
func (x *index) dropBlock(h *held) {
	delete(x.blocks, h.CIDR)
	i := x.length(h)
	if x.lengths[i].blocks--; x.lengths[i].blocks == 0 {
		x.lengths = slices.Delete(x.lengths, i, i+1)
	}
	x.order = slices.DeleteFunc(x.order, func(o *held) bool { return o == h })
	for n := range h.slots {
		if e := h.slots[n].owner; e != nil {
			x.strays[addrAt(h.CIDR, n)] = e
		}
	}
}

// add enters an assignment and takes its addresses, which must be free.
func (x *index) add(e *entry) {
	x.byHandle[e.Handle] = e
	for _, addr := range e.Addresses {
		if h := x.blockOf(addr); h != nil {
			h.take(ordinal(h.CIDR, addr), e)
		} else {
			x.strays[addr] = e
		}
	}
}

// load is add for the records of a file, which may be wrong: two attachments that
// have one address are [ErrCorrupt], and x is unusable then.
func (x *index) load(e *entry) error {
	x.byHandle[e.Handle] = e
	for _, addr := range e.Addresses {
		o, h, ord := x.strays[addr], x.blockOf(addr), 0
		if h != nil {
			ord = ordinal(h.CIDR, addr)
			o = h.slots[ord].owner
		}
		switch {
		case o != nil:
			return fmt.Errorf("%w: address %v is assigned to %v and to %v", ErrCorrupt, addr, o.Handle, e.Handle)
		case h != nil:
			h.take(ord, e)
		default:
			x.strays[addr] = e
		}
	}
	return nil
}

// remove takes an assignment out and frees its addresses.
func (x *index) remove(e *entry, at time.Time) {
	delete(x.byHandle, e.Handle)
	for _, addr := range e.Addresses {
		if h := x.blockOf(addr); h != nil {
			h.free(ordinal(h.CIDR, addr), at)
		} else {
			delete(x.strays, addr)
		}
	}
}
