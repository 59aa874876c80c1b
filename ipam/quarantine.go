package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Quarantine is an address that a running pod uses and that could not be recorded
// as the pod's: it is not assigned as long as the pod runs.
type Quarantine struct {
	Handle
	Address    netip.Addr
	Namespace  string
	Pod        string
	HostDevice string // host end of the pod's veth
	Why        string // with the remedy
}

// String is one line for an operator.
func (q Quarantine) String() string {
	return fmt.Sprintf("address %v of the running pod %s/%s (%v) is not assigned again: %s", q.Address, q.Namespace, q.Pod, q.Handle, q.Why)
}

// Quarantined returns the quarantined addresses.
func (a *Allocator) Quarantined() []Quarantine {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.quarantined.list)
}

// EndQuarantine ends the quarantine of the addresses of a pod that has ended.
// Those that are not assigned cool down first, as after a release.
func (a *Allocator) EndQuarantine(h Handle) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.quarantined.end(h, time.Now())
}

// quarantines are the quarantined addresses of this run: each start finds them
// anew. The memory's mutex guards it.
type quarantines struct {
	held *index
	list []Quarantine
}

// end takes a pod's addresses out.
func (s *quarantines) end(h Handle, now time.Time) {
	s.list = slices.DeleteFunc(s.list, func(q Quarantine) bool {
		if q.Handle != h {
			return false
		}
		if b := s.held.blockOf(q.Address); b != nil {
			ord := ordinal(b.CIDR, q.Address)
			delete(b.barred, ord)
			if b.slots[ord].state != slotUsed {
				b.free(ord, now)
			}
		}
		return true
	})
	s.apply()
}

// apply bars the quarantined addresses of held blocks from use.
func (s *quarantines) apply() {
	for _, q := range s.list {
		h := s.held.blockOf(q.Address)
		if h == nil {
			continue
		}
		if h.barred == nil {
			h.barred = map[int]bool{}
		}
		h.barred[ordinal(h.CIDR, q.Address)] = true
	}
}

// of returns the quarantine of an address, if there is one.
func (s *quarantines) of(addr netip.Addr) (Quarantine, bool) {
	i := slices.IndexFunc(s.list, func(q Quarantine) bool { return q.Address == addr })
	if i < 0 {
		return Quarantine{}, false
	}
	return s.list[i], true
}
