package ipam

import (
	"net/netip"
	"slices"
)

// doubt is the reason why a held block may not be this node's. It ends when the
// registry confirms or denies the block.
type doubt uint8

const (
	sure doubt = iota
	// guessed: entered for the pods in it. It is announced, because pods run in
	// it, and gives no new address: it may be shorter or longer than the real
	// one, and part of it another node's.
	guessed
	// denied: the kernel's drop routes of the last run lack it. That run had
	// given it back or lost it, and the file is older. It is not announced, and
	// gives no new address.
	denied
)

// DoubtBlocks compares the held blocks with those that the last run announced,
// of which the kernel keeps drop routes. A block without one may not be this
// node's any more. A block that was recorded for its pods, and is announced as
// before, is no guess. It is called between [New] and [Allocator.Run], on a
// machine that was not rebooted since.
func (a *Allocator) DoubtBlocks(announced []netip.Prefix) []netip.Prefix {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []netip.Prefix
	for _, h := range a.stock.order {
		switch {
		case slices.Contains(announced, h.CIDR):
			delete(a.doubts, h.CIDR)
		case !h.lost:
			a.doubts[h.CIDR] = denied
			out = append(out, h.CIDR)
		}
	}
	a.doubts.apply(a.stock.order)
	return out
}

// doubts are the doubts about held blocks; a block that is not in it is sure.
// The memory's mutex guards it.
type doubts map[netip.Prefix]doubt

// apply puts the doubts on the held blocks.
func (d doubts) apply(blocks []*held) {
	for _, h := range blocks {
		h.doubt = d[h.CIDR]
	}
}

// settle ends the doubt about a block that the registry has confirmed or
// denied. It reports whether there was one.
func (d doubts) settle(h *held) bool {
	if h.doubt == sure {
		return false
	}
	h.doubt = sure
	delete(d, h.CIDR)
	return true
}

// SameBoot reports whether the store was used before in this boot of the
// machine, so that the kernel's state is a former run's.
func (a *Allocator) SameBoot() bool { return a.sameBoot }
