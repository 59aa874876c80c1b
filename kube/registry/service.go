package registry

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// service is the protocol of every registry. One that lists its own blocks only
// answers UNIMPLEMENTED, which an agent does not take for an outage.
type service struct {
	onlinkv1.RegistryServer

	s *Server
}

// Nodes implements onlinkv1.RegistryServer.
func (v *service) Nodes(ctx context.Context, r *onlinkv1.NodesRequest) (*onlinkv1.NodesReply, error) {
	if !v.s.opt.All() {
		return nil, status.Error(codes.Unimplemented, ipam.ErrUnlisted.Error())
	}
	return v.RegistryServer.Nodes(ctx, r)
}
