package bgp

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// rivalCheck is how often Run looks for rivals. One counts when it was there
// twice: a block that has just changed hands is withdrawn by its last owner a
// moment after the new one announces it.
const rivalCheck = 5 * time.Second

// A look at very many routes keeps the engine from its work for a while: the
// next one comes after so many times as long, or after rivalSlowest.
const (
	rivalShare   = 1000
	rivalSlowest = 30 * time.Second
)

// rivalPause returns the time to the next look after one that took so long.
func rivalPause(took time.Duration) time.Duration {
	return min(max(rivalCheck, rivalShare*took), rivalSlowest)
}

// Rival is somebody else's announcement of a prefix this node originates, or
// of a part of it. Import policy refuses it here; other nodes may follow it.
type Rival struct {
	Origin  netip.Prefix // ours
	Prefix  netip.Prefix // as announced: Origin or inside it
	Peer    netip.Addr   // who told us
	NextHop netip.Addr
	// OriginatorID is the router ID of the node behind a reflector; the zero
	// Addr when Peer speaks for itself.
	OriginatorID netip.Addr
	ASPath       string // "" inside our AS
}

// Rivals returns the announcements of other nodes for what this one
// originates, by prefix, as of the last few seconds. It is nil with an
// unpatched engine, which cannot tell.
//
// Our own announcement also comes back, from a ToR or around it, and is not
// meant: a path that has our router ID or next hop, or, from another AS, that
// began in our AS or in the AS of one of our eBGP peers (which may have put
// its own number in place of ours).
func (s *Speaker) Rivals() []Rival {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.rivals)
}

// receiver is what bgp/engine adds to the engine: what peers announced,
// before import policy. Both functions run on the engine's main goroutine.
type receiver interface {
	EachReceived(match func(netip.Prefix) bool, fn func(peer netip.Addr, peerAS uint32, prefix netip.Prefix, attrs []bgp.PathAttributeInterface)) error
}

// look is what one look at the announcements of the peers finds.
type look struct {
	rivals     map[Rival]bool
	intrusions map[Intrusion]bool
	contested  map[netip.Prefix][]netip.Addr
}

// lookAround asks the engine what peers announce for our own prefixes, and for
// blocks that are not theirs.
func (s *Speaker) lookAround(engine receiver) (look, error) {
	own, echo, g := s.ownOrigins(), s.echoes(), s.guard.Load()
	found := look{rivals: map[Rival]bool{}, intrusions: map[Intrusion]bool{}, contested: map[netip.Prefix][]netip.Addr{}}
	watched := func(p netip.Prefix) bool {
		return own.holding(p).IsValid() || g != nil && g.KnowsOwners() && g.Pooled(p)
	}
	err := engine.EachReceived(watched, func(peer netip.Addr, _ uint32, prefix netip.Prefix, attrs []bgp.PathAttributeInterface) {
		r := rivalOf(peer, prefix, attrs)
		if r.Origin = own.holding(prefix); r.Origin.IsValid() {
			if !echo.has(&r, attrs) {
				found.rivals[r] = true
			}
		} else if i, bad := intrusionOf(g, &r); bad {
			found.intrusions[i] = true
		}
	})
	if c, able := any(engine).(contestant); err == nil && able {
		err = c.EachContested(func(prefix netip.Prefix, hops []netip.Addr) { found.contested[prefix] = hops })
	}
	return found, err
}

// findRivals looks at what peers announce. What was in last as well is what
// Rivals, Intrusions and Contested return from now on.
func (s *Speaker) findRivals(ctx context.Context, last look) look {
	engine, able := any(s.engine).(receiver)
	if !able {
		return last
	}
	found, err := s.lookAround(engine)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Warn("look for other announcements of blocks did not succeed", "error", err)
		}
		return last
	}
	var list []Rival
	for r := range found.rivals {
		if last.rivals[r] {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b Rival) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()), a.Peer.Compare(b.Peer), a.NextHop.Compare(b.NextHop))
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range list {
		if !slices.Contains(s.rivals, r) {
			s.log.Warn("somebody else announces our prefix", "origin", r.Origin, "prefix", r.Prefix, "peer", r.Peer, "next_hop", r.NextHop, "originator_id", r.OriginatorID, "as_path", r.ASPath)
		}
	}
	s.rivals = list
	s.noteIntrusionsLocked(found.intrusions, last.intrusions)
	s.noteContestedLocked(maps.Clone(found.contested), last.contested)
	return found
}

// rivalOf reads what tells one announcement from another.
func rivalOf(peer netip.Addr, prefix netip.Prefix, attrs []bgp.PathAttributeInterface) Rival {
	r := Rival{Prefix: prefix, Peer: peer, NextHop: nextHopOf(attrs)}
	for _, a := range attrs {
		switch a := a.(type) {
		case *bgp.PathAttributeOriginatorId:
			r.OriginatorID, _ = netip.AddrFromSlice(a.Value.To4())
		case *bgp.PathAttributeAsPath:
			r.ASPath = asPathText(a)
		}
	}
	return r
}

// ownPrefixes finds the own prefix that holds another.
type ownPrefixes struct {
	set  map[netip.Prefix]Origin
	bits []int // the lengths in set
}

func (s *Speaker) ownOrigins() ownPrefixes {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := ownPrefixes{set: maps.Clone(s.origins)}
	for p := range o.set {
		if !slices.Contains(o.bits, p.Bits()) {
			o.bits = append(o.bits, p.Bits())
		}
	}
	return o
}

// holding returns the own prefix that p lies in, else the zero Prefix.
func (o ownPrefixes) holding(p netip.Prefix) netip.Prefix {
	for _, bits := range o.bits {
		if bits > p.Bits() {
			continue
		}
		if wide, err := p.Addr().Prefix(bits); err == nil {
			if _, ours := o.set[wide]; ours {
				return wide
			}
		}
	}
	return netip.Prefix{}
}

// echoes tells our own announcement that came back from a rival's.
type echoes struct {
	routerID     netip.Addr
	addr4, addr6 netip.Addr
	begins       map[uint32]bool // AS numbers that an AS_PATH of ours may begin with
}

func (s *Speaker) echoes() echoes {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := echoes{routerID: s.cfg.RouterID, addr4: s.cfg.NodeAddress, addr6: s.cfg.NodeAddress6, begins: map[uint32]bool{s.cfg.ASN: true}}
	note := func(c *Session) {
		if c.Role == EBGP {
			e.begins[c.ASN], e.begins[c.LocalAS] = true, true
		}
	}
	for _, p := range s.peers {
		note(&p.Session)
	}
	for _, d := range s.dynamics {
		note(&d.Session)
	}
	return e
}

// has reports whether r may be our own announcement.
func (e *echoes) has(r *Rival, attrs []bgp.PathAttributeInterface) bool {
	if r.OriginatorID == e.routerID || r.NextHop == e.addr4 || r.NextHop == e.addr6 {
		return true
	}
	for _, a := range attrs {
		if path, ok := a.(*bgp.PathAttributeAsPath); ok && len(path.Value) > 0 {
			return e.mayBegin(path.Value[len(path.Value)-1])
		}
	}
	return false
}

// mayBegin reports whether the last segment of an AS_PATH, its beginning, is
// one that ours may have. A set says nothing of where the path began.
func (e *echoes) mayBegin(last bgp.AsPathParamInterface) bool {
	list := last.GetAS()
	return last.GetType() != bgp.BGP_ASPATH_ATTR_TYPE_SEQ || len(list) == 0 || e.begins[list[len(list)-1]]
}
