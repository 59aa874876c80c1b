package ipam

import (
	"net/netip"
	"slices"
	"time"
)

// workload is what the model knows of a named workload.
type workload struct {
	addrs   []netip.Addr
	running *Handle   // who has them as this workload's; nil: nobody
	freed   time.Time // valid while nobody has
}

// kept reports whether the workload's addresses are kept for it.
func (w *workload) kept() bool { return w.running == nil && time.Since(w.freed) < modelSticky }

// keeper returns the workload that an address is kept for, or nil.
func (m *model) keeper(a netip.Addr) *workload {
	for _, w := range m.works {
		if w.kept() && slices.Contains(w.addrs, a) {
			return w
		}
	}
	return nil
}

// keptFor returns the addresses that a request must get because they are kept
// for its workload; nil: it may get any.
func (m *model) keptFor(n *node, req *Request) []netip.Addr {
	w := m.works[req.Sticky]
	if _, has := m.has[req.Handle]; has || req.Sticky == "" || w == nil || !w.kept() || len(req.Addresses) > 0 {
		return nil
	}
	var wants []bool // families, true for IPv4
	if req.IPv4 || !req.IPv6 {
		wants = append(wants, true)
	}
	if req.IPv6 || !req.IPv4 {
		wants = append(wants, false)
	}
	blocks := n.Blocks()
	for i, a := range w.addrs {
		held := slices.ContainsFunc(blocks, func(b BlockUsage) bool { return b.Confirmed && b.CIDR.Contains(a) })
		if _, used := m.owner[a]; used || !held || len(w.addrs) != len(wants) || a.Is4() != wants[i] {
			return nil // a draining node may have given the block back
		}
	}
	m.count["sticky again"]++
	return w.addrs
}

// hold notes what an assigned request's workload has now. Of two with one name
// the first has it; an address is one workload's at a time.
func (m *model) hold(req *Request, addrs []netip.Addr) {
	w := m.works[req.Sticky]
	if req.Sticky == "" || w != nil && w.running != nil {
		return
	}
	for name, o := range m.works {
		if slices.ContainsFunc(o.addrs, func(a netip.Addr) bool { return slices.Contains(addrs, a) }) {
			delete(m.works, name)
		}
	}
	m.works[req.Sticky] = &workload{addrs: slices.Clone(addrs), running: &req.Handle}
	m.count["sticky"]++
}

// letGo notes that an attachment has ended.
func (m *model) letGo(h Handle) {
	for _, w := range m.works {
		if w.running != nil && *w.running == h {
			w.running, w.freed = nil, time.Now()
		}
	}
}
