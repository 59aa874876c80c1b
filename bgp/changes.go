package bgp

import (
	"net/netip"
	"time"
)

// peerChange is a change of a session's state.
type peerChange struct {
	addr    netip.Addr
	state   string
	limited bool    // held down by the engine: too many prefixes
	carries carried // when established
}

// turn is the begin or the end of a session, for the log.
type turn struct {
	up, down bool
	lasted   time.Duration // of the session that ended, or of the time without one
	first    bool          // there was no session before
	reason   string        // of the end
	past
}

// peerChange records a state change of a session in the engine. It runs on the
// watcher goroutine and must not block.
func (l *ledger) peerChange(c peerChange) (t turn) {
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
		return t
	}
	was := r.state
	r.state = c.state
	r.waitEOR = nil
	switch {
	case c.state == established:
		t = turn{up: true, lasted: l.now().Sub(r.since), first: !r.seen}
		r.since, r.seen = l.now(), true
		if !r.over { // else this session has ended already: the event that it came up is late
			r.past = past{}
		}
		r.opened(c.carries)
		r.openedBy(c.carries.id, l.now())
		l.listLocked(c.addr, r)
	case was == established:
		t = turn{down: true, lasted: l.now().Sub(r.since), reason: r.lost, past: r.past}
		r.since, r.over = l.now(), false
		r.flaps++
		r.ownID, r.foreign = "", nil
		l.unlistLocked(c.addr, r)
	}
	return t
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

// endOfRIB records an End-of-RIB marker (RFC 4724 section 2). It reports whether it is
// the last one that was waited for, and how long the session had been up.
func (l *ledger) endOfRIB(peer netip.Addr, f Family) (complete bool, after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.recordLocked(peer)
	had := len(r.waitEOR)
	delete(r.waitEOR, f)
	return r.state == established && had > 0 && len(r.waitEOR) == 0, l.now().Sub(r.since)
}
