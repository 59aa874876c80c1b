package policy

import (
	"iter"
	"net/netip"
	"slices"
)

// Block is a block of a pool and the node that owns it in the registry.
type Block struct {
	Prefix netip.Prefix
	Node   string
	// Addresses are the next hops of the node's announcements. When none has the
	// family of a path's next hop, the check admits the path.
	Addresses []netip.Addr
}

// admits reports whether the owner may have announced a path with that next hop.
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

// Owners maps blocks to the nodes that own them. It does not change.
type Owners struct {
	blocks []Block // by prefix
	exact  map[netip.Prefix]int32
	bits   []int // the lengths in blocks
}

// NewOwners returns the owners of blocks, which have valid prefixes.
func NewOwners(blocks []Block) *Owners {
	o := &Owners{blocks: slices.Clone(blocks), exact: make(map[netip.Prefix]int32, len(blocks))}
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

// Against returns a block that overlaps p and is not the node's at hop, or nil.
func (o *Owners) Against(p netip.Prefix, hop netip.Addr) *Block {
	if len(o.blocks) == 0 {
		return nil
	}
	if i, ok := o.exact[p]; ok {
		if b := &o.blocks[i]; !b.admits(hop) {
			return b
		}
		return nil
	}
	for _, bits := range o.bits { // is p a part of a block?
		if bits >= p.Bits() {
			continue
		}
		if i, ok := o.exact[netip.PrefixFrom(p.Addr(), bits).Masked()]; ok && !o.blocks[i].admits(hop) {
			return &o.blocks[i]
		}
	}
	at, _ := slices.BinarySearchFunc(o.blocks, p, func(b Block, p netip.Prefix) int { return b.Prefix.Compare(p) })
	for i := at; i < len(o.blocks) && contains(p, o.blocks[i].Prefix); i++ { // is a block a part of p?
		if !o.blocks[i].admits(hop) {
			return &o.blocks[i]
		}
	}
	return nil
}

// Changed returns the blocks that differ between o and next.
func (o *Owners) Changed(next *Owners) map[netip.Prefix]bool {
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

// SameNodes reports whether o and next, which have the same prefixes, name the
// same nodes.
func (o *Owners) SameNodes(next *Owners) bool {
	return slices.EqualFunc(o.blocks, next.blocks, func(a, b Block) bool { return a.Node == b.Node })
}

// Overlaps finds the prefixes that overlap one of a set.
type Overlaps struct {
	sorted []netip.Prefix
	set    map[netip.Prefix]bool
	bits   []int
}

// NewOverlaps returns the set of the prefixes in list.
func NewOverlaps(list iter.Seq[netip.Prefix]) *Overlaps {
	o := &Overlaps{set: map[netip.Prefix]bool{}}
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

// Touch reports whether p overlaps one of the set.
func (o *Overlaps) Touch(p netip.Prefix) bool {
	for _, bits := range o.bits {
		if bits <= p.Bits() && o.set[netip.PrefixFrom(p.Addr(), bits).Masked()] {
			return true
		}
	}
	at, _ := slices.BinarySearchFunc(o.sorted, p, netip.Prefix.Compare)
	return at < len(o.sorted) && contains(p, o.sorted[at])
}
