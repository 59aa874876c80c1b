package bgp

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"

	api "github.com/osrg/gobgp/v3/api"

	"onlink/bgp/policy"
)

// TestImport says what would become of r if the peer, a name or an address,
// announced it now. What r leaves zero is what a plain announcement has. It
// wraps [ErrUnknownPeer], [ErrNotStarted] or, for a route that cannot be,
// [ErrConfig].
func (s *Speaker) TestImport(ctx context.Context, peer string, r policy.Route) (policy.Verdict, error) {
	t, err := s.testOf(ctx, peer, &r)
	if err != nil {
		return policy.Verdict{}, err
	}
	return t.importOf(t.peer.Received(r, t.ends.Peer)), nil
}

// importOf says what becomes of a peer's route.
func (t *policyTest) importOf(r policy.Route) policy.Verdict {
	v := t.plan.Import(&t.peer, t.ends, r)
	if !v.Accepted || t.guard == nil {
		return v
	}
	return t.guard.Review(v, t.ends.Peer)
}

// TestExport says what the peer, a name or an address, would be told of r
// now. What r leaves zero is taken from the route to its prefix in the table,
// if there is one. Errors are those of TestImport.
func (s *Speaker) TestExport(ctx context.Context, peer string, r policy.Route) (policy.Verdict, error) {
	t, err := s.testOf(ctx, peer, &r)
	if err != nil {
		return policy.Verdict{}, err
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
	return t.plan.Export(&t.peer, t.ends, r), nil
}

// policyTest is what a test of the policy needs to know.
type policyTest struct {
	name  string // of the peer
	plan  *policy.Plan
	peer  policy.Peer
	ends  policy.Ends
	guard *policy.Guard // nil: the engine asks none
}

// testOf finds the peer and checks the route.
func (s *Speaker) testOf(ctx context.Context, peer string, r *policy.Route) (policyTest, error) {
	r.Origin = cmp.Or(r.Origin, policy.Origins()[0])
	if err := invalid(r.Validate("route")); err != nil {
		return policyTest{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		return policyTest{}, ErrNotStarted
	}
	session, name, addr, err := s.sessionLocked(peer)
	if err != nil {
		return policyTest{}, err
	}
	t := policyTest{
		name: name, plan: s.plan, peer: session.policy(netip.PrefixFrom(addr, addr.BitLen())),
		ends: policy.Ends{Peer: addr, Local: session.LocalAddress},
	}
	if _, able := any(s.engine).(importer); able {
		t.guard = s.guard.Load()
	}
	if !t.ends.Local.IsValid() {
		t.ends.Local = s.localEndLocked(ctx, addr)
	}
	return t, nil
}

// sessionLocked finds a configured peer by its name or address, or dynamic
// ones by their name or the address of one.
func (s *Speaker) sessionLocked(peer string) (Session, string, netip.Addr, error) {
	addr, notAddr := netip.ParseAddr(peer)
	for a, p := range s.peers {
		if p.Name == peer || notAddr == nil && a.WithZone("") == addr.WithZone("") {
			return p.Session, p.Name, a.WithZone(""), nil
		}
	}
	if d, ok := s.dynamics[peer]; ok {
		return d.Session, d.Name, d.Prefix.Addr(), nil
	}
	var best *Dynamic
	for _, d := range s.dynamics {
		if notAddr == nil && d.Prefix.Contains(addr) && (best == nil || d.Prefix.Bits() > best.Prefix.Bits()) {
			best = &d
		}
	}
	if best == nil {
		return Session{}, "", addr, fmt.Errorf("%w: %s", ErrUnknownPeer, peer)
	}
	return best.Session, best.Name, addr, nil
}

// localEndLocked returns our address of a session that was up.
func (s *Speaker) localEndLocked(ctx context.Context, peer netip.Addr) netip.Addr {
	var local netip.Addr
	err := s.engine.ListPeer(ctx, &api.ListPeerRequest{Address: peer.String()}, func(p *api.Peer) {
		if a, err := netip.ParseAddr(p.GetTransport().GetLocalAddress()); err == nil && !a.IsUnspecified() {
			local = a.Unmap()
		}
	})
	if err != nil {
		s.log.Warn("look-up of a session's own address did not succeed", "peer", peer, "error", err)
	}
	return local
}

// fill takes over from a path what the route leaves open. A route said to be
// of another source than the path is not that path.
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
	if r.LocalPref == nil && !p.Own {
		r.LocalPref = &p.LocalPref
	}
	if r.MED == nil && p.MED != 0 {
		r.MED = &p.MED
	}
	if len(r.Communities)+len(r.LargeCommunities) == 0 {
		r.Communities, r.LargeCommunities = policy.SplitCommunities(p.Communities)
	}
}
