package bgp

import (
	"net/netip"
	"time"
)

// This file is what sessions does by the clock.

// settleHolds repeats a hold or release that the engine did not take: it
// drops one that comes before it has acted on another.
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

// retryLimited brings back the peers that were over their prefix limit long
// enough; limited says since when.
func (s *sessions) retryLimited(limited map[netip.Addr]time.Time) {
	for addr, since := range limited {
		if time.Since(since) < s.cfg.LimitRetry {
			continue
		}
		delete(limited, addr)
		if s.holds.isHeld(addr) {
			continue // Release brings it back
		}
		if err := s.engine.Enable(addr); err != nil {
			s.log.Warn("failed to retry a peer", "peer", addr, "err", err)
		}
	}
}

// forgetAdopted removes known clients that did not come back, or went away,
// longer than the restart time ago; if they do come, they are dynamic peers.
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
	}
}

const (
	// strangers is how many peers that are not configured are remembered
	// after their session: whoever has the addresses of a Dynamic can make it
	// as many as there are.
	strangers = 4096
	// strangerMemory is how long the last errors of more than that are kept.
	strangerMemory = time.Minute
)

// forgetStrangers drops the history of dynamic peers that are long gone, once
// there are too many of them.
func (s *sessions) forgetStrangers(now time.Time) {
	s.ledger.forgetSome(strangers, func(addr netip.Addr, r *record) bool {
		_, configured := s.want.peers[addr]
		return !configured && s.adopted[addr] == "" && r.state == idle && now.Sub(r.since) > strangerMemory && now.Sub(r.errorAt) > strangerMemory
	})
}
