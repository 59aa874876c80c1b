package admin

import (
	"context"
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/agent/explain"
	onlinkv1 "onlink/proto/v1"
)

// Explain implements onlinkv1.AdminServer.
func (s *Server) Explain(ctx context.Context, r *onlinkv1.ExplainRequest) (*onlinkv1.ExplainReply, error) {
	addr, err := netip.ParseAddr(r.GetAddress())
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "address: %v", err)
	}
	got, err := explain.Explain(ctx, s.World, addr)
	if err != nil {
		return nil, err
	}
	return explanationToWire(got), nil
}
