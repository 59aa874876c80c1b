package bgp

import (
	"net/netip"
	"slices"

	"onlink/bgp/policy"
	"onlink/rib"
)

// side is a configuration of the speaker with its policy, in force or not.
type side struct {
	cfg     *Config
	want    wanted
	origins origins
	plan    *policy.Plan
	guard   *policy.Guard // nil: the engine checks with none
}

// verdict returns the side's decision on an announcement of a session.
func (d *side) verdict(s *foreseenSide, r *receivedRoute) policy.Verdict {
	t := policyTest{plan: d.plan, peer: s.peer, ends: s.ends, guard: d.guard}
	v := t.importOf(t.peer.Received(r.route, t.ends.Peer))
	if r.loop && v.Accepted {
		return v.Decide(loopText(r, d.cfg, v), policy.Reject, r.route)
	}
	return v
}

// ranked is a path to a prefix with its place in the selection of the best one.
type ranked struct {
	route     policy.Route // as the Loc-RIB has it
	candidate policy.Candidate
	source    netip.Addr // the peer, with its zone; the zero Addr: this node
	client    bool       // the source is a client of this reflector
	origin    netip.Addr // ORIGINATOR_ID
}

// ranked returns the accepted paths to a prefix, the best one first.
func (d *side) ranked(prefix netip.Prefix, routes []receivedRoute, verdict func(*receivedRoute) policy.Verdict) []ranked {
	var list []ranked
	if o, ok := d.origins[prefix]; ok {
		r := o.route(d.cfg)
		r.Source, r.Origin = policy.Own, policy.Origins()[0]
		list = append(list, ranked{route: r, candidate: candidateOf(&r, true)})
	}
	for i := range routes {
		v := verdict(&routes[i])
		if !v.Accepted {
			continue
		}
		one := ranked{route: v.After, candidate: candidateOf(&v.After, false), source: routes[i].peer, origin: routes[i].originator}
		one.candidate.External = routes[i].peerAS != d.cfg.ASN
		one.candidate.Peer, one.candidate.RouterID = routes[i].peer, routes[i].originator
		one.client = d.want.clientAt(routes[i].peer)
		list = append(list, one)
	}
	slices.SortStableFunc(list, func(a, b ranked) int {
		switch step, better := policy.Decide(&a.candidate, &b.candidate); {
		case step == policy.ByNothing:
			return 0
		case better:
			return -1
		}
		return 1
	})
	return list
}

// candidateOf returns what the selection compares.
func candidateOf(r *policy.Route, own bool) policy.Candidate {
	c := policy.Candidate{
		Own: own, LocalPref: 100, ASPath: r.ASPath, Origin: r.Origin, NextHop: r.NextHop,
		Stale: slices.Contains(r.Communities, policy.StandardText(communityLLGRStale)),
	}
	if r.LocalPref != nil {
		c.LocalPref = *r.LocalPref
	}
	if r.MED != nil {
		c.MED = *r.MED
	}
	return c
}

// clientAt reports whether the session to an address is with a client (RFC 4456).
func (w *wanted) clientAt(a netip.Addr) bool {
	if p, ok := w.peers[a]; ok {
		return p.Role == Client
	}
	d, ok := w.dynamicOf(a.WithZone(""))
	return ok && d.Role == Client
}

// best returns the first path, nil for none.
func best(list []ranked) *ranked {
	if len(list) == 0 {
		return nil
	}
	return &list[0]
}

// paths returns the multipath set of the ranked paths; own ones are none of the RIB's.
func paths(list []ranked) []rib.Path {
	var out []rib.Path
	for i := range list {
		r := &list[i]
		if i > 0 && !policy.Multipath(&list[0].candidate, &r.candidate) {
			break
		}
		if r.candidate.Own {
			continue
		}
		p := rib.Path{NextHop: r.route.NextHop, Peer: r.source, EBGP: r.candidate.External}
		if p.NextHop.Is6() && p.NextHop.IsLinkLocalUnicast() {
			p.NextHop = p.NextHop.WithZone(r.source.Zone())
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b rib.Path) int {
		if c := a.NextHop.Compare(b.NextHop); c != 0 {
			return c
		}
		return a.Peer.Compare(b.Peer)
	})
	return slices.Compact(out)
}

// announced has the verdicts on one best path that sessions of one policy share.
type announced map[string]policy.Verdict

// announces returns the side's decision whether a best path is announced to a session.
func (d *side) announces(shared *announced, r *ranked, s *foreseen, to *foreseenSide) policy.Verdict {
	switch {
	case r == nil:
		return policy.Verdict{Rule: "there is no path"}
	case to == nil:
		return policy.Verdict{Rule: "the session is removed"}
	case r.source.IsValid() && r.source.WithZone("") == s.Address.WithZone(""):
		return policy.Verdict{Rule: "the peer announced the best path itself"}
	case r.route.Source == policy.Reflected && !r.client && to.Role == IBGP:
		return policy.Verdict{Rule: "a route of a peer that is no client is reflected to clients alone (RFC 4456 section 6)"}
	case len(s.families) > 0 && !slices.Contains(s.families, familyOf(r.route.Prefix.Addr())):
		return policy.Verdict{Rule: "the session does not carry the family"}
	}
	if to.shared == "" {
		return d.plan.Export(&to.peer, to.ends, r.route)
	}
	v, known := (*shared)[to.shared]
	if !known {
		v = d.plan.Export(&to.peer, to.ends, r.route)
		if *shared == nil {
			*shared = announced{}
		}
		(*shared)[to.shared] = v
	}
	return v
}
