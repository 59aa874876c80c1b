package bgp

import (
	"net/netip"
	"slices"
	"strings"
)

// hold is the set of reasons for which a session is kept down, by holder.
type hold map[string]string

// text joins the reasons, for status and for the peer.
func (h hold) text() string {
	var list []string
	for _, why := range h {
		list = append(list, why)
	}
	slices.Sort(list)
	return strings.Join(list, "; ")
}

// holds are the sessions that are kept down.
type holds struct {
	of map[netip.Addr]hold
	// unsettled are the peers whose last hold or release the engine may have
	// dropped.
	unsettled map[netip.Addr]bool
	begun     chan struct{} // cap 1; sent to by unsettle, never closed
}

func newHolds() holds {
	return holds{of: map[netip.Addr]hold{}, unsettled: map[netip.Addr]bool{}, begun: make(chan struct{}, 1)}
}

// unsettle marks the peer of a hold or release that the engine may drop.
func (h *holds) unsettle(peer netip.Addr) {
	h.unsettled[peer] = true
	select {
	case h.begun <- struct{}{}:
	default:
	}
}

func (h *holds) isHeld(peer netip.Addr) bool { return len(h.of[peer]) > 0 }

// forget ends all holds of a peer that is not configured any more: who adds it again
// does not expect the state of the one before, and could not release it meanwhile.
func (h *holds) forget(peer netip.Addr) {
	delete(h.of, peer)
	delete(h.unsettled, peer)
}

// add adds a holder's reason and reports whether it is the peer's first.
func (h *holds) add(peer netip.Addr, holder, why string) (first bool) {
	first = !h.isHeld(peer)
	if first {
		h.of[peer] = hold{}
	}
	h.of[peer][holder] = why
	return first
}

// remove deletes a holder's reason and reports whether it was the peer's last.
func (h *holds) remove(peer netip.Addr, holder string) (last bool) {
	if _, held := h.of[peer][holder]; !held {
		return false
	}
	delete(h.of[peer], holder)
	if h.isHeld(peer) {
		return false
	}
	delete(h.of, peer)
	return true
}
