package bgp

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"onlink/bgp/gobgp"
	"onlink/bgp/policy"
)

// Announced is a route that a peer announces now, and the verdict of import.
type Announced struct {
	Peer    netip.Addr
	Name    string // of the Peer, or of the Dynamic that accepted it
	Route   policy.Route
	Verdict policy.Verdict
}

// maxAnnounced bounds an answer: a peer may announce every prefix around an
// address, and a reflector has many.
const maxAnnounced = 128

// Announced returns the announcements of peers for the prefixes around an address,
// by prefix, longest first, and peer. It is nil with an unpatched engine, which
// does not list received routes.
func (s *Speaker) Announced(_ context.Context, around netip.Addr) []Announced {
	s.mu.Lock()
	engine, able := s.engine, s.started && s.engine.KeepsReceived()
	s.mu.Unlock()
	if !able {
		return nil
	}
	var list []Announced
	loops := map[int]string{}
	err := engine.EachReceived(func(p netip.Prefix) bool { return p.Contains(around) },
		func(peer netip.Addr, prefix netip.Prefix, attrs gobgp.Attributes) {
			if len(list) < maxAnnounced {
				if attrs.OriginatorID() == s.cfg.RouterID {
					loops[len(list)] = "the ORIGINATOR_ID is this node's: a loop"
				}
				r := attrs.Route(prefix)
				r.Origin = cmp.Or(r.Origin, policy.Origins()[0])
				list = append(list, Announced{Peer: peer, Route: r})
			}
		})
	if err != nil {
		s.log.Warn("failed to look up announcements", "address", around, "err", err)
	}
	for i := range list {
		a := &list[i]
		t, err := s.testOf(a.Peer.String(), &a.Route)
		if err != nil { // the peer was removed in between
			a.Verdict = a.Verdict.Decide(err.Error(), policy.Reject, a.Route)
		} else {
			a.judge(&t)
		}
		if why := loops[i]; why != "" {
			a.Verdict = a.Verdict.Decide(why, policy.Reject, a.Route)
		}
	}
	slices.SortStableFunc(list, func(a, b Announced) int {
		return cmp.Or(b.Route.Prefix.Bits()-a.Route.Prefix.Bits(), a.Peer.Compare(b.Peer))
	})
	return list
}

// judge sets the verdict of import on an announcement, and the peer's name.
func (a *Announced) judge(t *policyTest) {
	a.Name = t.name
	a.Route.Source = policy.Reflected
	if t.peer.External {
		a.Route.Source = policy.External
	}
	a.Verdict = t.importOf(a.Route)
}
