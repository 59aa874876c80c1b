package bgp

import (
	"cmp"
	"context"
	"net/netip"

	"onlink/bgp/policy"
)

// TestImport returns the verdict on r if the peer, a name or an address, announced
// it now. Fields of r that are zero get the values of a plain announcement. It
// wraps [ErrUnknownPeer], [ErrNotStarted] or, for an invalid route, [ErrConfig].
func (s *Speaker) TestImport(_ context.Context, peer string, r policy.Route) (policy.Verdict, error) {
	t, err := s.testOf(peer, &r)
	if err != nil {
		return policy.Verdict{}, err
	}
	return t.importOf(t.peer.Received(r, t.ends.Peer)), nil
}

// importOf returns the verdict of policy and guard on a peer's route.
func (t *policyTest) importOf(r policy.Route) policy.Verdict {
	v := t.plan.Import(&t.peer, t.ends, r)
	if !v.Accepted || t.guard == nil {
		return v
	}
	return t.guard.Review(v, t.ends.Peer)
}

// TestExport returns the verdict on r if this node exported it now to the peer, a
// name or an address. Fields of r that are zero get the values of the best path
// to its prefix, if there is one. Errors are those of TestImport.
func (s *Speaker) TestExport(ctx context.Context, peer string, r policy.Route) (policy.Verdict, error) {
	t, err := s.testOf(peer, &r)
	if err != nil {
		return policy.Verdict{}, err
	}
	if r.Source == policy.Service { // a kind of own prefix, which the prefix tells
		r.Source = policy.Own
	}
	if known := s.Paths(ctx, r.Prefix); len(known) > 0 {
		fill(&r, &known[0])
	}
	if r.Source == policy.AnySource {
		r.Source = policy.Reflected
	}
	if r.Source == policy.Own && !r.NextHop.IsValid() {
		r.NextHop = Origin{Prefix: r.Prefix}.nextHop(&s.cfg)
	}
	v := t.plan.Export(&t.peer, t.ends, r)
	if r.Source == policy.Own && t.plan.HasService(r.Prefix) {
		v.Before.Source, v.After.Source = policy.Service, policy.Service
	}
	return v, nil
}

// policyTest is the input for a test of the policy.
type policyTest struct {
	name  string // of the peer
	plan  *policy.Plan
	peer  policy.Peer
	ends  policy.Ends
	guard *policy.Guard // nil: the engine checks with none
}

// testOf finds the peer and checks the route, whose empty Origin it fills in.
func (s *Speaker) testOf(peer string, r *policy.Route) (policyTest, error) {
	r.Origin = cmp.Or(r.Origin, policy.Origins()[0])
	if err := invalid(r.Validate("route")); err != nil {
		return policyTest{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		return policyTest{}, ErrNotStarted
	}
	return testOfLocked(s, peer)
}

// testOfLocked finds the peer, a name or an address. The speaker's lock is held.
func testOfLocked(s *Speaker, peer string) (policyTest, error) {
	session, name, addr, err := s.sessions.want.find(peer)
	if err != nil {
		return policyTest{}, err
	}
	t := policyTest{
		name: name, plan: s.plan, peer: session.policy(netip.PrefixFrom(addr, addr.BitLen())),
		ends: policy.Ends{Peer: addr, Local: session.LocalAddress},
	}
	if s.engine.ChecksImport() {
		t.guard = s.guard.current.Load()
	}
	if !t.ends.Local.IsValid() {
		st, _, err := s.engine.Neighbor(addr)
		if err != nil {
			s.log.Warn("failed to look up a session's own address", "peer", peer, "err", err)
		}
		t.ends.Local = st.Local
	}
	return t, nil
}

// fill sets the zero fields of the route to those of a path, unless the route has
// another source: then it is not that path.
func fill(r *policy.Route, p *PathInfo) {
	source := policy.Reflected
	switch {
	case p.Own:
		source = policy.Own
	case p.EBGP:
		source = policy.External
	}
	if r.Source != policy.AnySource && r.Source != source {
		return
	}
	r.Source, r.ASPath = source, cmp.Or(r.ASPath, p.ASPath)
	if !r.NextHop.IsValid() {
		r.NextHop = p.NextHop
	}
	if r.LocalPref == nil && (!p.Own || p.LocalPref != 100) {
		r.LocalPref = &p.LocalPref
	}
	if r.MED == nil && p.MED != 0 {
		r.MED = &p.MED
	}
	if len(r.Communities)+len(r.LargeCommunities) == 0 {
		r.Communities, r.LargeCommunities = policy.SplitCommunities(p.Communities)
	}
}
