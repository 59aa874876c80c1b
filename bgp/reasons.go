package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

const (
	// reasonAgain is the time after which a reason that persists is logged again:
	// a line for every attempt would fill the log.
	reasonAgain = time.Hour
	// reasonsKept bounds the remembered reasons of one peer that were logged.
	reasonsKept = 16
	// clashMemory is how long two speakers at one address count as a problem
	// after the last session of either.
	clashMemory = 10 * time.Minute
	// foreignKept bounds the paths of a peer that carry this node's router ID.
	foreignKept = 16
)

// ended records the end of an Established session, whose reason later failed
// attempts do not replace. text is the reason unless a failure recorded one
// before; kept means that its routes are kept for the peer's restart.
func (l *ledger) ended(addr netip.Addr, text string, kept bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.recordLocked(addr)
	r.kept, r.over = kept, true
	if !r.explained {
		r.note(failure{text: text, ends: true}, l.now())
	}
	r.explained = false
}

// collided records that the newest error is of one of two connections to the
// same speaker (RFC 4271 section 6.8): no error once the other one is the
// session.
func (l *ledger) collided(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recordLocked(addr).collided = true
}

// several records that a peer's address has more than one speaker.
func (l *ledger) several(addr netip.Addr, text string) {
	l.failed(addr, text)
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.recordLocked(addr)
	r.clash, r.clashAt = r.lastError, l.now()
}

// newReason returns the newest reason of a peer, "" if it returned that within
// the last reasonAgain.
func (l *ledger) newReason(addr netip.Addr) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.peers[addr]
	if r == nil || r.lastError == "" {
		return ""
	}
	now := l.now()
	if at, told := r.told[r.lastError]; told && now.Sub(at) < reasonAgain {
		return ""
	}
	if r.told == nil || len(r.told) >= reasonsKept {
		r.told = map[string]time.Time{}
	}
	r.told[r.lastError] = now
	return r.lastError
}

// openedBy records the router ID of the speaker that a session came up with. An
// ID that returns means two speakers by turns at one address; one that does not
// is a node with a new ID.
func (r *record) openedBy(id netip.Addr, now time.Time) {
	if r.collided {
		r.lastError, r.errorAt, r.collided = "", time.Time{}, false
	}
	r.told = nil
	if !r.explained { // else this session has ended already: the event that it came up is late
		r.lost = ""
	}
	if !id.IsValid() || len(r.ids) > 0 && r.ids[len(r.ids)-1] == id {
		return
	}
	if slices.Contains(r.ids, id) && now.Sub(r.idAt) < clashMemory {
		r.clash = fmt.Sprintf("two BGP speakers (router IDs %s and %s) come from this address by turns: several nodes behind one address, or two daemons on one", r.ids[len(r.ids)-1], id)
		r.clashAt, r.lastError, r.errorAt = now, r.clash, now
	}
	r.ids, r.idAt = append(r.ids, id), now
	if len(r.ids) > 2 {
		r.ids = r.ids[1:]
	}
}

// id returns the router ID of the newest session.
func (r *record) id() netip.Addr {
	if len(r.ids) == 0 {
		return netip.Addr{}
	}
	return r.ids[len(r.ids)-1]
}

// reason returns why a session is not up: the newest failure, and the reason of
// the last session's end before that.
func (r *record) reason() string {
	if r.state == established || r.lost == "" || r.lost == r.lastError {
		return r.lastError
	}
	return fmt.Sprintf("%s (the session ended before: %s)", r.lastError, r.lost)
}

// advice names the settings to check when no packet of a peer arrives: silence
// does not reveal its cause.
func (s *Session) advice() string {
	switch {
	case s.Password != "":
		return ": is the TCP MD5 key the same at both ends? a peer does not answer a wrong one"
	case s.TTLSecurity > 0:
		return fmt.Sprintf(": does the peer use TTL security too, and is it at most %d hops away?", s.TTLSecurity)
	case s.Role == EBGP && s.Multihop == 0:
		return ": is the peer on a network of this node? a router between needs multihop"
	}
	return ": is the peer up, and has it no TCP MD5 key for this node?"
}

// trouble returns the fault of a peer whose session may be up; "" means none.
func (r *record) trouble(now time.Time) string {
	switch {
	case r.clash != "" && now.Sub(r.clashAt) < clashMemory:
		return r.clash
	case r.ownID != "":
		return r.ownID
	case r.state == established && len(r.families) == 0:
		return "no address family in common with the peer: nothing is exchanged"
	}
	return ""
}

// twins returns another peer of our AS with the same router ID, and a text for
// operators: each of the two nodes ignores the announcements of the other one
// (RFC 4456 section 8).
func (l *ledger) twins(addr netip.Addr) (other netip.Addr, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.peers[addr]
	if r == nil || r.state != established || !r.internal {
		return netip.Addr{}, ""
	}
	for a := range l.byID[idOf{r.id(), addr.Is4()}] {
		if a != addr && (!other.IsValid() || a.Less(other)) {
			other = a
		}
	}
	if !other.IsValid() {
		return other, ""
	}
	return other, fmt.Sprintf("router ID %s is also that of the peer %s: each ignores what the other announces; give every node its own bgp.routerID", r.id(), other)
}
