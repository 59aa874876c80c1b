package agent

import (
	"context"
	"errors"
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/bgp"
	onlinkv1 "onlink/proto/v1"
)

// TestPolicy implements onlinkv1.AdminServer.
func (s *admin) TestPolicy(ctx context.Context, r *onlinkv1.TestPolicyRequest) (*onlinkv1.TestPolicyReply, error) {
	route, err := policyRoute(r.GetRoute())
	if err != nil {
		return nil, err
	}
	test := s.a.speaker.TestImport
	switch r.GetDirection() {
	case onlinkv1.PolicyDirection_POLICY_DIRECTION_IMPORT:
	case onlinkv1.PolicyDirection_POLICY_DIRECTION_EXPORT:
		test = s.a.speaker.TestExport
	case onlinkv1.PolicyDirection_POLICY_DIRECTION_UNSPECIFIED:
		return nil, status.Error(codes.InvalidArgument, "no direction: use import or export")
	default:
		return nil, status.Errorf(codes.InvalidArgument, "direction %d is not known: use import or export", r.GetDirection())
	}
	v, err := test(ctx, r.GetPeer(), route)
	switch {
	case errors.Is(err, bgp.ErrUnknownPeer):
		return nil, status.Errorf(codes.NotFound, "no peer has the name or address %q: see onlinkctl peers", r.GetPeer())
	case errors.Is(err, bgp.ErrConfig):
		return nil, status.Error(codes.InvalidArgument, err.Error())
	case err != nil:
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	rep := &onlinkv1.TestPolicyReply{Accepted: v.Accepted, Rule: v.Rule, Before: routeToPolicy(v.Before), After: routeToPolicy(v.After)}
	for _, st := range v.Steps {
		rep.Steps = append(rep.Steps, &onlinkv1.PolicyStep{Rule: st.Rule, Effect: st.Effect})
	}
	return rep, nil
}

// policyRoute reads the route of a request; what it leaves out stays zero.
func policyRoute(w *onlinkv1.PolicyRoute) (bgp.Route, error) {
	r := bgp.Route{
		ASPath: w.GetAsPath(), Communities: w.GetCommunities(), LargeCommunities: w.GetLargeCommunities(), Origin: w.GetOrigin(),
	}
	if w != nil {
		r.LocalPref, r.MED = w.LocalPref, w.Med
	}
	var err error
	if r.Prefix, err = parsePrefixOrAddr(w.GetPrefix()); err != nil {
		return r, status.Errorf(codes.InvalidArgument, "prefix: %v", err)
	}
	if w.GetNextHop() != "" {
		if r.NextHop, err = netip.ParseAddr(w.GetNextHop()); err != nil {
			return r, status.Errorf(codes.InvalidArgument, "next hop: %v", err)
		}
	}
	for _, source := range []bgp.Source{bgp.Own, bgp.Reflected, bgp.External} {
		if source.String() == w.GetSource() {
			r.Source = source
		}
	}
	if w.GetSource() != "" && r.Source == bgp.AnySource {
		return r, status.Errorf(codes.InvalidArgument, "source %q is not known: use own, reflected or external", w.GetSource())
	}
	return r, nil
}

func routeToPolicy(r bgp.Route) *onlinkv1.PolicyRoute {
	w := &onlinkv1.PolicyRoute{
		Prefix: r.Prefix.String(), AsPath: r.ASPath, LocalPref: r.LocalPref, Med: r.MED,
		Communities: r.Communities, LargeCommunities: r.LargeCommunities, Origin: r.Origin, Source: r.Source.String(),
	}
	if r.NextHop.IsValid() {
		w.NextHop = r.NextHop.String()
	}
	return w
}
