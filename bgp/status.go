package bgp

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	api "github.com/osrg/gobgp/v3/api"
)

// PeerStatus is the observed state of one session.
type PeerStatus struct {
	Name    string // of the Peer, or of the Dynamic that accepted it
	Address netip.Addr
	ASN     uint32
	Role    Role
	Dynamic bool
	State   string // as named by RFC 4271: Idle, Connect, Active, OpenSent, OpenConfirm, Established
	// Since is when the session came up, or since when it is down.
	Since time.Time
	// Received counts the peer's prefixes, Accepted those that import accepts
	// (with an unpatched engine those without a loop), Advertised ours that it was
	// sent. Advertised is -1 where counting would cost too much (more than
	// 32 peers).
	Received, Accepted, Advertised int
	// Flaps counts how often the session was lost since it was configured.
	Flaps int
	// LastError says why the session last failed, in words, also when another
	// one is up by now; "" means never.
	LastError string
	ErrorAt   time.Time
	// Faults counts what was wrong with the peer's messages, and those for it.
	Faults Faults
	// Withheld is what the peer is not told now because no message to it can
	// hold it.
	Withheld Withheld
	// EndOfRIB reports whether the peer's first dump is complete.
	EndOfRIB bool
	Families []Family // carried by the session
	// Held says why the session is kept down; "" means that it is not.
	Held string
	// Trouble says what is wrong though the session may be up: two speakers
	// with one router ID or behind one address, no address family in common.
	Trouble string
	// Gone is a peer that the speaker waits for no longer: a dynamic one whose
	// last session failed within the last 10 minutes, or a Stranger.
	Gone bool
	// Stranger is an address whose connections are refused, because no Peer and
	// no Dynamic has it. Speaks means that it sent an OPEN; ASN is that one's.
	Stranger, Speaks bool
}

// advertisedLimit is the number of peers up to which Peers counts what each
// was sent: the engine evaluates the export policy of every route for that.
const advertisedLimit = 32

// Peers returns the state of all sessions, by name and address. It is nil
// before Start.
func (s *Speaker) Peers() []PeerStatus {
	s.mu.Lock()
	if !s.started {
		s.mu.Unlock()
		return nil
	}
	count := len(s.peers) + len(s.adopted)
	for name := range s.dynamics {
		members, err := s.membersLocked(name)
		if err == nil {
			count += len(members)
		}
	}
	s.mu.Unlock()
	counted := count <= advertisedLimit
	withheld := s.withheld()
	var list []PeerStatus
	err := s.engine.ListPeer(context.Background(), &api.ListPeerRequest{EnableAdvertised: counted}, func(p *api.Peer) {
		addr, err := netip.ParseAddr(p.GetState().GetNeighborAddress())
		if err != nil {
			return
		}
		st := s.peerStatus(addr.Unmap(), p)
		st.Withheld = withheld[st.Address]
		if !counted {
			st.Advertised = -1
		}
		list = append(list, st)
	})
	if err != nil {
		s.log.Warn("list of peers did not succeed", "error", err)
	}
	list = append(list, s.absent(list)...)
	slices.SortFunc(list, func(a, b PeerStatus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Address.Compare(b.Address))
	})
	return list
}

// peerStatus joins what the engine, the ledger and the configuration know.
func (s *Speaker) peerStatus(addr netip.Addr, p *api.Peer) PeerStatus {
	r := s.ledger.get(addr)
	_, twin := s.ledger.twins(addr)
	st := PeerStatus{
		Address: addr, ASN: p.GetState().GetPeerAsn(), State: r.state, Since: r.since, Flaps: r.flaps,
		LastError: r.reason(), ErrorAt: r.errorAt, Faults: r.faults, EndOfRIB: r.done(time.Now()),
		Trouble: cmp.Or(r.trouble(time.Now()), twin),
	}
	if r.state == established {
		st.Families = r.families
	}
	for _, f := range p.GetAfiSafis() {
		st.Received += int(f.GetState().GetReceived())
		st.Accepted += int(f.GetState().GetAccepted())
		st.Advertised += int(f.GetState().GetAdvertised())
		if r.usesEOR && f.GetState().GetAdvertised() > 0 {
			st.Advertised-- // the engine counts the End-of-RIB marker
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Held = s.held[addr].text()
	if c, ok := s.peers[addr]; ok {
		st.Name, st.Role, st.ASN = c.Name, c.Role, c.ASN
		if st.State != established && r.silent {
			st.LastError += c.advice()
		}
		return st
	}
	st.Dynamic = true
	for name, d := range s.dynamics {
		if groupOf(name) == p.GetConf().GetPeerGroup() || s.adopted[addr] == name {
			st.Name, st.Role, st.ASN = name, d.Role, d.ASN
		}
	}
	return st
}

// absent returns the peers that have no session in the engine and a reason.
func (s *Speaker) absent(listed []PeerStatus) []PeerStatus {
	has := make(map[netip.Addr]bool, len(listed))
	for _, p := range listed {
		has[p.Address] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.peers {
		has[a] = true
	}
	return s.ledger.absent(time.Now(), has, func(a netip.Addr) (best Dynamic, ok bool) {
		for _, d := range s.dynamics {
			if d.Prefix.Contains(a) && (!ok || d.Prefix.Bits() > best.Prefix.Bits()) {
				best, ok = d, true
			}
		}
		return best, ok
	})
}

// Synced reports whether what the peers know has arrived: every peer that is
// up has sent End-of-RIB, and at least one is up (or none is configured).
// Peers that are not up hold it back only for the first Config.Settle after
// Start, the time a live one needs to come up. waiting names those it waits
// for. The caller adds a deadline.
func (s *Speaker) Synced() (done bool, waiting []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started || !s.applied {
		return false, nil
	}
	now := time.Now()
	settling := now.Sub(s.startedAt) < s.cfg.Settle
	up := 0
	configured := map[netip.Addr]string{}
	for addr, p := range s.peers {
		configured[addr] = p.Name
	}
	for addr, name := range s.adopted {
		configured[addr] = name + " " + addr.String()
	}
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
		for _, name := range configured { // never heard of
			waiting = append(waiting, name)
		}
	}
	slices.Sort(waiting)
	alone := len(s.peers)+len(s.adopted) == 0
	return len(waiting) == 0 && (up > 0 || alone), waiting
}

// each calls fn with every record.
func (l *ledger) each(fn func(netip.Addr, *record)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for addr, r := range l.peers {
		fn(addr, r)
	}
}

// anyEstablished reports whether a session is up.
func (l *ledger) anyEstablished() bool {
	up := false
	l.each(func(_ netip.Addr, r *record) { up = up || r.state == established })
	return up
}
