package bgp

import (
	"net/netip"
	"time"
)

// This file has the periodic work of sessions.

// settleHolds repeats the holds and releases that the engine dropped: it drops
// one that comes before it has acted on another.
func (s *sessions) settleHolds() {
	for peer := range s.holds.unsettled {
		if _, known := s.want.peers[peer]; !known {
			delete(s.holds.unsettled, peer)
			continue
		}
		st, _, err := s.engine.Neighbor(peer)
		held := s.holds.isHeld(peer)
		switch {
		case err != nil:
		case st.Down == held:
			delete(s.holds.unsettled, peer)
		case held:
			err = s.engine.Disable(peer, s.holds.of[peer].text())
		default:
			err = s.engine.Enable(peer)
		}
		if err != nil {
			s.log.Warn("failed to hold or release a session", "peer", peer, "err", err)
		}
	}
}

// retryLimited enables the peers that exceeded their prefix limit at least
// Config.LimitRetry ago; limited has the times.
func (s *sessions) retryLimited(limited map[netip.Addr]time.Time) {
	for addr, since := range limited {
		if time.Since(since) < s.cfg.LimitRetry {
			continue
		}
		delete(limited, addr)
		if s.holds.isHeld(addr) {
			continue // Release enables it
		}
		if err := s.engine.Enable(addr); err != nil {
			s.log.Warn("failed to retry a peer", "peer", addr, "err", err)
		}
	}
}

// forgetAdopted removes the known clients whose session has been down for longer
// than the restart time, since the start or since it was lost. A later session
// of theirs is a dynamic one.
func (s *sessions) forgetAdopted(now, startedAt time.Time) {
	for addr, name := range s.adopted {
		since := startedAt
		r := s.ledger.get(addr)
		if r.since.After(since) {
			since = r.since
		}
		if r.state == established || now.Sub(since) < s.cfg.RestartTime {
			continue
		}
		if err := s.remove(addr, s.want.dynamics[name].Session); err != nil {
			s.log.Warn("failed to remove an absent client", "peer", addr, "err", err)
			continue
		}
		delete(s.adopted, addr)
		if !r.seen {
			s.ledger.missed(addr, "it did not come back after the restart of this agent")
		}
	}
}

const (
	// strangers bounds the records of ended dynamic sessions: a host with many
	// addresses in the range of a Dynamic could fill the memory.
	strangers = 4096
	// strangerMemory is how long the last errors are kept beyond that bound.
	strangerMemory = time.Minute
)

// forgetStrangers drops the records of dynamic peers that are long gone, and of those
// that were never up once there are more than strangers.
func (s *sessions) forgetStrangers(now time.Time) {
	wanted := func(addr netip.Addr) bool {
		_, configured := s.want.peers[addr]
		return configured || s.adopted[addr] != ""
	}
	s.ledger.forgetGone(now, wanted)
	s.ledger.forgetSome(strangers, func(addr netip.Addr, r *record) bool {
		return !wanted(addr) && !r.seen && r.state == idle && now.Sub(r.since) > strangerMemory && now.Sub(r.errorAt) > strangerMemory
	})
}
