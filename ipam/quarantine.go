package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Quarantine is an address that a running pod uses and that could not be
// entered as the pod's: it is given to nobody for as long as the pod runs.
type Quarantine struct {
	Handle
	Address    netip.Addr
	Namespace  string
	Pod        string
	HostDevice string // host end of the pod's veth
	Why        string // and what to do about it
}

// String is one line for an operator.
func (q Quarantine) String() string {
	return fmt.Sprintf("address %v of the running pod %s/%s (%v) is kept out of use: %s", q.Address, q.Namespace, q.Pod, q.Handle, q.Why)
}

// Quarantined returns what is kept out of use.
func (a *Allocator) Quarantined() []Quarantine {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.kept)
}

// EndQuarantine gives the addresses of a pod that has ended back to everybody;
// those that nobody has rest first, as after a release.
func (a *Allocator) EndQuarantine(h Handle) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.kept = slices.DeleteFunc(a.kept, func(q Quarantine) bool {
		if q.Handle != h {
			return false
		}
		if b := a.blockOf(q.Address); b != nil {
			ord := ordinal(b.CIDR, q.Address)
			delete(b.barred, ord)
			if b.slots[ord].state != slotUsed {
				b.free(ord, now)
			}
		}
		return true
	})
	a.barLocked()
}

// barLocked keeps the quarantined addresses of held blocks out of use.
func (a *Allocator) barLocked() {
	for _, q := range a.kept {
		h := a.blockOf(q.Address)
		if h == nil {
			continue
		}
		if h.barred == nil {
			h.barred = map[int]bool{}
		}
		h.barred[ordinal(h.CIDR, q.Address)] = true
	}
}

// barsLocked returns the quarantine of an address, if there is one.
func (a *Allocator) barsLocked(addr netip.Addr) (Quarantine, bool) {
	i := slices.IndexFunc(a.kept, func(q Quarantine) bool { return q.Address == addr })
	if i < 0 {
		return Quarantine{}, false
	}
	return a.kept[i], true
}

// doubt says why a held block is not trusted to be this node's. It ends when
// the registry confirms or denies the block.
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
// of which the kernel keeps drop routes. What the kernel does not have the
// node may not own any more. What was entered for the pods in it, and is
// announced as it was, is no guess. It is called between [New] and
// [Allocator.Run], on a machine that was not rebooted since.
func (a *Allocator) DoubtBlocks(announced []netip.Prefix) []netip.Prefix {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []netip.Prefix
	for _, h := range a.order {
		switch {
		case slices.Contains(announced, h.CIDR):
			delete(a.doubts, h.CIDR)
		case !h.lost:
			a.doubts[h.CIDR] = denied
			out = append(out, h.CIDR)
		}
	}
	a.doubtLocked()
	return out
}

// doubtLocked puts the doubts on the held blocks.
func (a *Allocator) doubtLocked() {
	for _, h := range a.order {
		h.doubt = a.doubts[h.CIDR]
	}
}

// settleDoubtLocked ends the doubt about a block of which the registry has
// said whose it is.
func (a *Allocator) settleDoubtLocked(h *held) {
	if h.doubt == sure {
		return
	}
	h.doubt = sure
	delete(a.doubts, h.CIDR)
	signal(a.changed)
}

// SameBoot reports whether the store was used before in this boot of the
// machine, so that what the kernel holds is a former run's.
func (a *Allocator) SameBoot() bool { return a.sameBoot }
