package bgp

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"onlink/bgp/gobgp"
	"onlink/bgp/policy"
)

// Fate is what a [Desire] means for a session.
type Fate string

// The fates. A reset session comes up again by itself, and its routes with it.
const (
	FateKept    Fate = "kept"
	FateChanged Fate = "changed" // policy, timers or limits, without a reset
	FateReset   Fate = "reset"
	FateRemoved Fate = "removed"
	FateAdded   Fate = "added"
)

// SessionForecast is one session, as it is and with its fate.
type SessionForecast struct {
	Address    netip.Addr
	Name       string
	Role       Role // of a session that stays the next one
	Up         bool // it is Established
	Fate       Fate
	Why        string // of a reset: the settings that need a new session
	Advertised int    // prefixes announced to its update groups now
	Accepted   int    // prefixes of it that are accepted now
}

// foreseen is a session on both sides.
type foreseen struct {
	SessionForecast

	now, next *foreseenSide // nil: the side has no such session
	families  []Family      // that it carries; nil: all
	renamed   bool          // own prefixes name their peers
	// importDiffers and exportDiffers: the two sides may treat its routes differently.
	importDiffers, exportDiffers bool
}

// foreseenSide is a session on one side.
type foreseenSide struct {
	Session

	shared string // sessions of one text have one policy
	peer   policy.Peer
	ends   policy.Ends
}

func newForeseenSide(s *Session, addr, local netip.Addr, dynamic string) *foreseenSide {
	bare := addr.WithZone("")
	return &foreseenSide{
		Session: *s, shared: dynamic, peer: s.policy(netip.PrefixFrom(bare, bare.BitLen())),
		ends: policy.Ends{Peer: bare, Local: cmp.Or(s.LocalAddress, local)},
	}
}

// open finds the sessions of both sides, by their names.
func (f *forecast) open(listed []PeerStatus, adopted map[netip.Addr]string) error {
	locals := map[netip.Addr]netip.Addr{}
	if err := f.engine.Neighbors(false, func(st gobgp.State) { locals[st.Address] = st.Local }); err != nil {
		return fmt.Errorf("list peers: %w", err)
	}
	for i := range listed {
		p := &listed[i]
		if p.Gone || p.Stranger {
			continue
		}
		s := &foreseen{families: p.Families, SessionForecast: SessionForecast{
			Address: p.Address, Name: p.Name, Role: p.Role, Up: p.State == established, Accepted: p.Accepted,
		}}
		if s.Up {
			s.Advertised = f.advertisedTo(p.Address)
		}
		f.pair(s, locals[p.Address], adopted[p.Address])
	}
	for addr, p := range f.next.want.peers {
		if f.byAddr[addr.WithZone("")] == nil {
			f.add(&foreseen{SessionForecast: SessionForecast{Address: addr, Name: p.Name, Role: p.Role, Fate: FateAdded}, next: newForeseenSide(&p.Session, addr, netip.Addr{}, "")})
		}
	}
	slices.SortFunc(f.sessions, func(a, b *foreseen) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), a.Address.Compare(b.Address))
	})
	return nil
}

// advertisedTo counts the prefixes in the update groups of a peer: status counts them
// for few peers only.
func (f *forecast) advertisedTo(peer netip.Addr) (n int) {
	groups, err := f.engine.UpdateGroups(peer)
	if err != nil {
		return 0 // the session ended meanwhile
	}
	for _, g := range groups {
		n += g.Prefixes
	}
	return n
}

func (f *forecast) add(s *foreseen) {
	anew := s.now == nil || s.next == nil || s.now.wire() != s.next.wire() || s.Fate == FateReset
	s.importDiffers = anew || !s.now.samePolicy(s.next.Session)
	s.exportDiffers = anew || s.renamed || !s.now.Export.Equal(s.next.Export)
	f.sessions = append(f.sessions, s)
	f.byAddr[s.Address.WithZone("")] = s
}

// pair finds both sides of a session that is there, and its fate. adopted is the
// Dynamic of a client that the restart waits for.
func (f *forecast) pair(s *foreseen, local netip.Addr, adopted string) {
	addr := s.Address
	static, configured := f.now.want.peers[addr]
	will, stays := f.next.want.peers[addr]
	dynamic, known := f.now.want.dynamics[cmp.Or(adopted, s.Name)]
	if !configured && !known {
		dynamic, known = f.now.want.dynamicOf(addr)
	}
	accepts, accepted := f.next.want.dynamicOf(addr)
	switch {
	case configured:
		s.now = newForeseenSide(&static.Session, addr, local, "")
	case known:
		s.now = newForeseenSide(&dynamic.Session, addr, local, dynamic.Name)
	}
	switch {
	case stays:
		s.next, s.Role = newForeseenSide(&will.Session, addr, local, ""), will.Role
	case accepted:
		s.next, s.Role = newForeseenSide(&accepts.Session, addr, local, accepts.Name), accepts.Role
	}
	switch {
	case s.next == nil:
		s.Fate = FateRemoved
	case configured != stays:
		s.Fate, s.Why = FateReset, "its entry in bgp.peers"
	case configured:
		s.Fate, s.Why = fateOf(&static, &will)
		s.renamed = static.Name != will.Name
	case known && (dynamic.Prefix != accepts.Prefix || dynamic.Name != accepts.Name):
		s.Fate, s.Why = FateReset, "its range of clients"
	default:
		s.Fate, s.Why = fateOfSession(&dynamic.Session, &accepts.Session, true)
	}
	f.add(s)
}

// fateOf compares two configurations of a peer as sessions.drop does.
func fateOf(a, b *Peer) (Fate, string) {
	fate, why := fateOfSession(&a.Session, &b.Session, false)
	for _, one := range []struct {
		differs bool
		key     string
	}{{a.Port != b.Port, "port"}, {a.Passive != b.Passive, "passive"}, {a.Yield != b.Yield, "the direction of the mesh"}} {
		if one.differs {
			fate, why = FateReset, strings.TrimPrefix(why+", "+one.key, ", ")
		}
	}
	if fate == FateKept && a.Name != b.Name {
		fate = FateChanged
	}
	return fate, why
}

// fateOfSession compares what needs a new session, and what does not. The sessions of
// a range begin anew for new timers too.
func fateOfSession(a, b *Session, ranged bool) (Fate, string) {
	x, y := a.wire(), b.wire()
	var why []string
	for _, one := range []struct {
		differs bool
		key     string
	}{
		{x.asn != y.asn, "asn"},
		{x.role != y.role, "client"},
		{x.password != y.password, "password"},
		{x.device != y.device, "interface"},
		{x.ttlSecurity != y.ttlSecurity, "ttlSecurity"},
		{x.multihop != y.multihop, "multihop"},
		{x.local != y.local, "localAddress"},
		{x.families != y.families, "address families"},
		{x.allowOwnAS != y.allowOwnAS, "allowOwnAS"},
		{x.localAS != y.localAS, "localASN"},
		{x.longLived != y.longLived, "longLivedRestart"},
		{ranged && a.timers() != b.timers(), "timers or limits"},
	} {
		if one.differs {
			why = append(why, one.key)
		}
	}
	switch {
	case len(why) > 0:
		return FateReset, strings.Join(why, ", ")
	case !a.Equal(*b):
		return FateChanged, ""
	}
	return FateKept, ""
}

// result returns the sessions without what the computation needs.
func (f *forecast) result() []SessionForecast {
	out := make([]SessionForecast, len(f.sessions))
	for i, s := range f.sessions {
		out[i] = s.SessionForecast
	}
	return out
}
