package admin

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/bgp"
	onlinkv1 "onlink/proto/v1"
)

// TestPolicy implements onlinkv1.AdminServer.
func (s *Server) TestPolicy(ctx context.Context, r *onlinkv1.TestPolicyRequest) (*onlinkv1.TestPolicyReply, error) {
	route, err := policyRoute(r.GetRoute())
	if err != nil {
		return nil, err
	}
	test := s.Speaker.TestImport
	switch r.GetDirection() {
	case onlinkv1.PolicyDirection_POLICY_DIRECTION_IMPORT:
	case onlinkv1.PolicyDirection_POLICY_DIRECTION_EXPORT:
		test = s.Speaker.TestExport
	case onlinkv1.PolicyDirection_POLICY_DIRECTION_UNSPECIFIED:
		return nil, status.Error(codes.InvalidArgument, "direction is missing: use import or export")
	default:
		return nil, status.Errorf(codes.InvalidArgument, "unknown direction %d: use import or export", r.GetDirection())
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
