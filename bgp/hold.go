package bgp

import (
	"net/netip"
	"slices"
	"strings"
)

// hold says why a session is kept down: by holder, in words.
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
	of map[netip.Addr]hold // may name peers that are not configured now
	// unsettled are those of which the engine may not have taken the last hold or
	// release.
	unsettled map[netip.Addr]bool
}

func (h *holds) isHeld(peer netip.Addr) bool { return len(h.of[peer]) > 0 }

// add reports whether the peer was not held before.
func (h *holds) add(peer netip.Addr, holder, why string) (first bool) {
	first = !h.isHeld(peer)
	if first {
		h.of[peer] = hold{}
	}
	h.of[peer][holder] = why
	return first
}

// remove reports whether the holder was the last one.
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
