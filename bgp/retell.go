package bgp

import (
	"net/netip"
	"time"
)

// retellAfter is how long a session must have been up before its peer is told
// everything again: long enough that the engine takes the session for up.
const retellAfter = time.Second

// retell tells every peer, once a session, all that we have for it again.
//
// GoBGP v4.8.0 sends the first dump of a session before it marks the session
// Established; a path that is learned or announced in between is in neither
// the dump nor the updates, and the peer would never hear of it: with 500
// clients that came up together some thirty of 249,500 routes were missing.
// What the peer knows already it takes as an implicit replacement (RFC 4271
// section 9.1.4), so telling it twice costs messages and changes nothing.
func (s *Speaker) retell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, addr := range s.ledger.untold(time.Now()) {
		if err := s.softResetLocked(addr.String(), softOut); err != nil {
			s.log.Debug("routes were not told again", "peer", addr, "error", err)
		}
	}
}

// untold returns the peers whose session is up long enough and that were not
// told again, and marks them as told.
func (l *ledger) untold(now time.Time) []netip.Addr {
	var list []netip.Addr
	l.each(func(addr netip.Addr, r *record) {
		if r.state == established && !r.retold && now.Sub(r.since) >= retellAfter {
			r.retold = true
			list = append(list, addr)
		}
	})
	return list
}
