package registry

import (
	"iter"
	"net/netip"
	"slices"

	"onlink/ipam"
)

// cover is the part of a pool that is not to be claimed.
type cover struct {
	size   int
	narrow map[netip.Prefix]bool // blocks of the size; of smaller ones the block around them
	wide   []netip.Prefix        // reserved ranges and larger blocks
}

func newCover(size int, reserved []netip.Prefix) *cover {
	c := &cover{size: size, narrow: map[netip.Prefix]bool{}}
	for _, r := range reserved {
		if r.Bits() <= size { // a block with one reserved address is assigned
			c.wide = append(c.wide, r)
		}
	}
	return c
}

// add covers an owned block.
func (c *cover) add(p netip.Prefix) {
	if p.Bits() < c.size {
		c.wide = append(c.wide, p)
		return
	}
	around, err := p.Addr().Prefix(c.size)
	if err == nil {
		c.narrow[around] = true
	}
}

// around returns the index of the wide range that a block lies in, -1: in none.
func (c *cover) around(p netip.Prefix) int {
	return slices.IndexFunc(c.wide, func(w netip.Prefix) bool { return w.Contains(p.Addr()) })
}

// candidates returns the blocks of a request's pool that are not covered, from the
// node's own beginning on. What is covered while it runs is left out too.
func candidates(req ipam.ClaimRequest, c *cover) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		n, start := req.Count(), req.Start()
		for _, part := range [][2]uint64{{start, n}, {0, start}} {
			for at := part[0]; at < part[1]; {
				p := req.At(at)
				if i := c.around(p); i >= 0 {
					if c.wide[i].Bits() <= req.PoolCIDR.Bits() {
						return // the whole pool
					}
					at = max(at, req.Number(last(c.wide[i]))) + 1
					continue
				}
				at++
				if !c.narrow[p] && !yield(p) {
					return
				}
			}
		}
	}
}

// last returns the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
