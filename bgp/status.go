package bgp

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"onlink/bgp/gobgp"
)

// advertisedLimit is the number of peers up to which Peers counts the prefixes
// announced to each: the engine evaluates the export policy of every route for
// that.
const advertisedLimit = 32

// Peers returns the state of all sessions, by name and address. It is nil
// before Start.
func (s *Speaker) Peers() []PeerStatus {
	s.mu.Lock()
	started := s.started
	s.mu.Unlock()
	if !started {
		return nil
	}
	count := 0
	err := s.engine.Neighbors(false, func(gobgp.State) { count++ })
	counted := err == nil && count <= advertisedLimit
	withheld, err := withheldBy(s.engine)
	if err != nil {
		s.log.Warn("failed to list withheld routes", "err", err)
	}
	var list []PeerStatus
	err = s.engine.Neighbors(counted, func(e gobgp.State) {
		st := s.peerStatus(e)
		st.Withheld = withheld[st.Address]
		if !counted {
			st.Advertised = -1
		}
		list = append(list, st)
	})
	if err != nil {
		s.log.Warn("failed to list peers", "err", err)
	}
	s.mu.Lock()
	list = append(list, s.sessions.absent(list)...)
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b PeerStatus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Address.Compare(b.Address))
	})
	return list
}

// peerStatus joins the state of a session in the engine with its record and its
// configuration.
func (s *Speaker) peerStatus(e gobgp.State) PeerStatus {
	r := s.ledger.get(e.Address)
	_, twin := s.ledger.twins(e.Address)
	st := PeerStatus{
		Address: e.Address, ASN: e.ASN, State: r.state, Since: r.since, Flaps: r.flaps,
		Received: e.Received, Accepted: e.Accepted, Advertised: e.Advertised,
		LastError: r.reason(), ErrorAt: r.errorAt, Faults: r.faults, EndOfRIB: r.done(time.Now()),
		Trouble: cmp.Or(r.trouble(time.Now()), twin), Seen: r.seen,
	}
	if r.state == established {
		st.Families = r.families
	} else {
		st.Lost = r.had
	}
	if r.usesEOR {
		st.Advertised -= e.AdvertisedIn // the engine counts the End-of-RIB markers
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions.describe(&st, e, &r, &s.md5)
	return st
}

// Faults returns the counts of all peers since the start, removed ones included.
func (s *Speaker) Faults() Faults { return s.ledger.total() }

// Synced reports whether the routes of the peers have arrived: every Established
// peer has sent End-of-RIB, and at least one is Established (or none is
// configured). Peers without a session delay it only for the first Config.Settle
// after Start, the time a live one needs to come up. waiting are the names of
// the peers it waits for. The caller adds a deadline.
func (s *Speaker) Synced() (done bool, waiting []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started || !s.applied {
		return false, nil
	}
	now := time.Now()
	settling := now.Sub(s.startedAt) < s.cfg.Settle
	up := 0
	configured := s.sessions.names()
	alone := len(configured) == 0
	s.ledger.each(func(addr netip.Addr, r *record) {
		name, known := configured[addr]
		if !known {
			name = addr.String()
		}
		delete(configured, addr)
		switch {
		case r.done(now):
			up++
		case r.state == established:
			up++
			waiting = append(waiting, name)
		case known && settling:
			waiting = append(waiting, name)
		}
	})
	if settling {
		for _, name := range configured { // they have no record yet
			waiting = append(waiting, name)
		}
	}
	slices.Sort(waiting)
	return len(waiting) == 0 && (up > 0 || alone), waiting
}
