package admin

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/agent/namespaces"
	onlinkv1 "onlink/proto/v1"
)

// SetNamespaces implements onlinkv1.AdminServer.
func (s *Server) SetNamespaces(ctx context.Context, req *onlinkv1.SetNamespacesRequest) (*onlinkv1.SetNamespacesReply, error) {
	list := make([]namespaces.Choice, 0, len(req.GetNamespaces()))
	for _, n := range req.GetNamespaces() {
		list = append(list, namespaces.Choice{Namespace: n.GetNamespace(), Pools: n.GetPools()})
	}
	switch err := s.Namespaces.Set(list); {
	case errors.Is(err, namespaces.ErrInvalid):
		return nil, status.Error(codes.InvalidArgument, err.Error())
	case err != nil:
		return nil, status.Error(codes.Internal, err.Error())
	}
	s.Log.Info("pools of namespaces set", "by", caller(ctx), "namespaces", len(list))
	return &onlinkv1.SetNamespacesReply{}, nil
}

// ListNamespaces implements onlinkv1.AdminServer.
func (s *Server) ListNamespaces(context.Context, *onlinkv1.ListNamespacesRequest) (*onlinkv1.ListNamespacesReply, error) {
	rep := &onlinkv1.ListNamespacesReply{}
	for _, c := range s.Namespaces.List() {
		rep.Namespaces = append(rep.Namespaces, &onlinkv1.NamespacePools{Namespace: c.Namespace, Pools: c.Pools})
	}
	return rep, nil
}
