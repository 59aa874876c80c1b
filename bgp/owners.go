package bgp

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Block is a block of a pool and the node that owns it, as the registry says.
type Block struct {
	Prefix netip.Prefix
	Node   string
	// Addresses are the next hops of the node's announcements. Of a node that
	// has none of a next hop's family it is not known where its blocks lead.
	Addresses []netip.Addr
}

// admits reports whether a path with that next hop may be the owner's.
func (b *Block) admits(hop netip.Addr) bool {
	known := false
	for _, a := range b.Addresses {
		if a == hop {
			return true
		}
		known = known || a.Is4() == hop.Is4()
	}
	return !known
}

// owners says who owns which block. It does not change.
type owners struct {
	blocks []Block // by prefix
	exact  map[netip.Prefix]int32
	bits   []int // the lengths in blocks
}

func newOwners(blocks []Block) *owners {
	o := &owners{blocks: slices.Clone(blocks), exact: make(map[netip.Prefix]int32, len(blocks))}
	slices.SortFunc(o.blocks, func(a, b Block) int { return a.Prefix.Compare(b.Prefix) })
	for i := range o.blocks {
		p := o.blocks[i].Prefix
		o.exact[p] = int32(i) //nolint:gosec // far fewer
		if !slices.Contains(o.bits, p.Bits()) {
			o.bits = append(o.bits, p.Bits())
		}
	}
	return o
}

// against returns a block that overlaps p and is not the node's at hop, or nil.
func (o *owners) against(p netip.Prefix, hop netip.Addr) *Block {
	if len(o.blocks) == 0 {
		return nil
	}
	if i, ok := o.exact[p]; ok {
		if b := &o.blocks[i]; !b.admits(hop) {
			return b
		}
		return nil
	}
	for _, bits := range o.bits { // p is a part of a block
		if bits >= p.Bits() {
			continue
		}
		if i, ok := o.exact[netip.PrefixFrom(p.Addr(), bits).Masked()]; ok && !o.blocks[i].admits(hop) {
			return &o.blocks[i]
		}
	}
	at, _ := slices.BinarySearchFunc(o.blocks, p, func(b Block, p netip.Prefix) int { return b.Prefix.Compare(p) })
	for i := at; i < len(o.blocks) && contains(p, o.blocks[i].Prefix); i++ { // blocks are a part of p
		if !o.blocks[i].admits(hop) {
			return &o.blocks[i]
		}
	}
	return nil
}

// changed returns the blocks that are not the same in both.
func (o *owners) changed(next *owners) map[netip.Prefix]bool {
	diff := map[netip.Prefix]bool{}
	for i := range next.blocks {
		b := &next.blocks[i]
		if at, had := o.exact[b.Prefix]; !had || !slices.Equal(o.blocks[at].Addresses, b.Addresses) {
			diff[b.Prefix] = true
		}
	}
	for p := range o.exact {
		if _, has := next.exact[p]; !has {
			diff[p] = true
		}
	}
	return diff
}

// SetOwners says who owns which block: what a peer of our AS announces inside
// a pool and leads to another node than the owner is refused. A block that is
// not among them, or whose owner's address is not known, is nobody's yet: then
// the node that announced it first has it. Only the announcements of blocks
// whose owner changed are judged again. It wraps [ErrConfig] for a prefix that
// is none.
func (s *Speaker) SetOwners(_ context.Context, blocks []Block) error {
	for _, b := range blocks {
		if err := validPrefix("Owners", b.Prefix); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	had := s.owners
	next := newOwners(blocks)
	s.owners = next
	diff := had.changed(next)
	if len(diff) == 0 && slices.EqualFunc(had.blocks, next.blocks, func(a, b Block) bool { return a.Node == b.Node }) {
		return nil
	}
	s.storeGuardLocked()
	if !s.started || len(diff) == 0 {
		return nil
	}
	engine, able := any(s.engine).(importer)
	if !able {
		return nil
	}
	changed := newOverlaps(maps.Keys(diff))
	if err := engine.ImportAgain(changed.touch); err != nil {
		return fmt.Errorf("judge announcements of blocks again: %w", err)
	}
	return nil
}

// overlaps finds out whether a prefix overlaps one of a set.
type overlaps struct {
	sorted []netip.Prefix
	set    map[netip.Prefix]bool
	bits   []int
}

func newOverlaps(list func(func(netip.Prefix) bool)) *overlaps {
	o := &overlaps{set: map[netip.Prefix]bool{}}
	for p := range list {
		if o.set[p] {
			continue
		}
		o.set[p] = true
		o.sorted = append(o.sorted, p)
		if !slices.Contains(o.bits, p.Bits()) {
			o.bits = append(o.bits, p.Bits())
		}
	}
	slices.SortFunc(o.sorted, netip.Prefix.Compare)
	return o
}

// touch reports whether p overlaps one of the set.
func (o *overlaps) touch(p netip.Prefix) bool {
	for _, bits := range o.bits {
		if bits <= p.Bits() && o.set[netip.PrefixFrom(p.Addr(), bits).Masked()] {
			return true
		}
	}
	at, _ := slices.BinarySearchFunc(o.sorted, p, netip.Prefix.Compare)
	return at < len(o.sorted) && contains(p, o.sorted[at])
}
