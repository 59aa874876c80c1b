package bgp

import "net/netip"

// peerChange is a change of a session's state.
type peerChange struct {
	addr    netip.Addr
	state   string
	limited bool    // held down by the engine: too many prefixes
	carries carried // when established
}

// peerChange records a state change of a session in the engine. It runs on the
// watcher goroutine and must not block.
func (l *ledger) peerChange(c peerChange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.recordLocked(c.addr)
	if c.limited {
		r.fail("maximum number of prefixes exceeded, the session is held down", l.now())
		select {
		case l.limited <- c.addr:
		default:
		}
	}
	if c.state == r.state {
		return
	}
	was := r.state
	r.state = c.state
	r.waitEOR = nil
	switch {
	case c.state == established:
		r.since = l.now()
		r.opened(c.carries)
		r.openedBy(c.carries.id, l.now())
		l.listLocked(c.addr, r)
	case was == established:
		r.since = l.now()
		r.flaps++
		r.ownID, r.foreign = "", nil
		l.unlistLocked(c.addr, r)
	}
}

// carried is the result of the two OPENs of a session.
type carried struct {
	families []Family
	usesEOR  bool // graceful restart: End-of-RIB will come
	id       netip.Addr
	internal bool // the peer is of our AS
}

// opened records the families and capabilities of the session that came up.
func (r *record) opened(c carried) {
	r.families, r.usesEOR, r.internal = c.families, c.usesEOR, c.internal
	r.waitEOR = make(map[Family]bool, len(c.families))
	for _, f := range c.families {
		r.waitEOR[f] = true
	}
}

// endOfRIB records an End-of-RIB marker (RFC 4724 section 2).
func (l *ledger) endOfRIB(peer netip.Addr, f Family) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.recordLocked(peer).waitEOR, f)
}
