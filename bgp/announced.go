package bgp

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"onlink/bgp/policy"
)

// Announced is what a peer announces now, and what import makes of it.
type Announced struct {
	Peer    netip.Addr
	Name    string // of the Peer, or of the Dynamic that accepted it
	Route   policy.Route
	Verdict policy.Verdict
}

// maxAnnounced bounds an answer: a peer may announce every prefix around an
// address, and a reflector has many.
const maxAnnounced = 128

// Announced returns what peers announce for the prefixes around an address, by
// prefix, longest first, and peer. It is nil with an unpatched engine, which
// cannot tell.
func (s *Speaker) Announced(ctx context.Context, around netip.Addr) []Announced {
	s.mu.Lock()
	engine, able := any(s.engine).(receiver)
	able = able && s.started
	s.mu.Unlock()
	if !able {
		return nil
	}
	var list []Announced
	loops := map[int]string{}
	err := engine.EachReceived(func(p netip.Prefix) bool { return p.Contains(around) },
		func(peer netip.Addr, _ uint32, prefix netip.Prefix, attrs []bgp.PathAttributeInterface) {
			if len(list) < maxAnnounced {
				var info PathInfo
				for _, a := range attrs {
					info.attribute(a)
				}
				if info.OriginatorID == s.cfg.RouterID {
					loops[len(list)] = "the ORIGINATOR_ID is this node's: a loop"
				}
				list = append(list, Announced{Peer: peer, Route: routeOf(prefix, attrs)})
			}
		})
	if err != nil {
		s.log.Warn("look-up of announcements did not succeed", "address", around, "error", err)
	}
	for i := range list {
		s.judge(ctx, &list[i])
		if why := loops[i]; why != "" {
			list[i].Verdict = list[i].Verdict.Decide(why, policy.Reject, list[i].Route)
		}
	}
	slices.SortStableFunc(list, func(a, b Announced) int {
		return cmp.Or(b.Route.Prefix.Bits()-a.Route.Prefix.Bits(), a.Peer.Compare(b.Peer))
	})
	return list
}

// judge says what import makes of an announcement, and names the peer.
func (s *Speaker) judge(ctx context.Context, a *Announced) {
	t, err := s.testOf(ctx, a.Peer.String(), &a.Route)
	if err != nil { // a peer that has just gone
		a.Verdict = a.Verdict.Decide(err.Error(), policy.Reject, a.Route)
		return
	}
	a.Name = t.name
	a.Route.Source = policy.Reflected
	if t.peer.External {
		a.Route.Source = policy.External
	}
	a.Verdict = t.importOf(a.Route)
}

// routeOf is an announcement as a policy sees it.
func routeOf(prefix netip.Prefix, attrs []bgp.PathAttributeInterface) policy.Route {
	r := policy.Route{Prefix: prefix, NextHop: nextHopOf(attrs), Origin: policy.Origins()[0]}
	var info PathInfo
	for _, a := range attrs {
		info.attribute(a)
		switch a := a.(type) {
		case *bgp.PathAttributeLocalPref:
			r.LocalPref = &a.Value
		case *bgp.PathAttributeMultiExitDisc:
			r.MED = &a.Value
		}
	}
	r.ASPath, r.Origin = info.ASPath, cmp.Or(info.Origin, r.Origin)
	r.Communities, r.LargeCommunities = policy.SplitCommunities(info.Communities)
	return r
}
