package registry

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	onlinkv1 "onlink/proto/v1"
)

// service is the protocol of every registry, and the answer of one that lists its
// own blocks only: it is UNIMPLEMENTED, which an agent does not take for an outage.
type service struct {
	onlinkv1.RegistryServer

	s *Server
}

// List implements onlinkv1.RegistryServer.
func (v *service) List(ctx context.Context, r *onlinkv1.ListRequest) (*onlinkv1.ListReply, error) {
	if r.GetNode() != v.s.opt.Node && !v.s.opt.All() {
		return nil, status.Error(codes.Unimplemented, errUnlisted.Error())
	}
	return v.RegistryServer.List(ctx, r)
}

// Nodes implements onlinkv1.RegistryServer.
func (v *service) Nodes(ctx context.Context, r *onlinkv1.NodesRequest) (*onlinkv1.NodesReply, error) {
	if !v.s.opt.All() {
		return nil, status.Error(codes.Unimplemented, errUnlisted.Error())
	}
	return v.RegistryServer.Nodes(ctx, r)
}
