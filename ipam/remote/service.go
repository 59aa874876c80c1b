package remote

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// service answers the calls of the other nodes from this node's registry.
type service struct {
	onlinkv1.UnimplementedRegistryServer

	reg   ipam.Registry
	audit Audit
	guard *guard // nil: a caller is not bound to its address
}

// NewService returns the answers of a registry to the calls of its wire, for a
// server that knows its callers by other means than [NewServer].
func NewService(reg ipam.Registry, audit Audit) onlinkv1.RegistryServer {
	return &service{reg: reg, audit: audit}
}

// Claim implements onlinkv1.RegistryServer.
func (s *service) Claim(ctx context.Context, r *onlinkv1.ClaimRequest) (*onlinkv1.ClaimReply, error) {
	req, err := claimFromWire(r)
	if err == nil {
		err = req.Validate()
	}
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := s.guard.bind(ctx, onlinkv1.Registry_Claim_FullMethodName, req.Caller, ""); err != nil {
		return nil, err
	}
	b, err := s.reg.Claim(ctx, req)
	if err != nil {
		return nil, errorToWire(err)
	}
	return &onlinkv1.ClaimReply{Block: blockToWire(b)}, nil
}

// Release implements onlinkv1.RegistryServer.
func (s *service) Release(ctx context.Context, r *onlinkv1.ReleaseRequest) (*onlinkv1.ReleaseReply, error) {
	b, err := blockFromWire(r.GetBlock())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	by, err := s.caller(ctx, onlinkv1.Registry_Release_FullMethodName, r.GetBy(), b.Node, "")
	if err != nil {
		return nil, err
	}
	if err := s.reg.Release(ctx, by, b); err != nil {
		return nil, errorToWire(err)
	}
	return &onlinkv1.ReleaseReply{}, nil
}

// Assert implements onlinkv1.RegistryServer.
func (s *service) Assert(ctx context.Context, r *onlinkv1.AssertRequest) (*onlinkv1.AssertReply, error) {
	held, err := blocksFromWire(r.GetBlocks())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	by, err := s.caller(ctx, onlinkv1.Registry_Assert_FullMethodName, r.GetBy(), r.GetNode(), "")
	if err != nil {
		return nil, err
	}
	lost, err := s.reg.Assert(ctx, by, held)
	if err != nil {
		return nil, errorToWire(err)
	}
	return &onlinkv1.AssertReply{Lost: blocksToWire(lost)}, nil
}

// List implements onlinkv1.RegistryServer.
func (s *service) List(ctx context.Context, r *onlinkv1.ListRequest) (*onlinkv1.ListReply, error) {
	blocks, err := s.reg.List(ctx, r.GetNode())
	if errors.Is(err, ipam.ErrUnlisted) {
		return nil, status.Error(codes.Unimplemented, err.Error())
	}
	if err != nil {
		return nil, errorToWire(err)
	}
	return &onlinkv1.ListReply{Blocks: blocksToWire(blocks)}, nil
}

// Nodes implements onlinkv1.RegistryServer.
func (s *service) Nodes(ctx context.Context, _ *onlinkv1.NodesRequest) (*onlinkv1.NodesReply, error) {
	reg, ok := s.reg.(ipam.NodeLister)
	if !ok {
		return nil, status.Error(codes.Unimplemented, "this registry cannot list nodes")
	}
	nodes, err := reg.Nodes(ctx)
	if err != nil {
		return nil, errorToWire(err)
	}
	return nodesToWire(nodes), nil
}

// ForceRelease implements onlinkv1.RegistryServer.
func (s *service) ForceRelease(ctx context.Context, r *onlinkv1.ForceReleaseRequest) (*onlinkv1.ListReply, error) {
	reg, ok := s.reg.(ipam.ForceReleaser)
	if !ok {
		return nil, status.Error(codes.Unimplemented, "this registry cannot release by force")
	}
	blocks, err := s.audit(ctx, ipam.AuditReleaseNode, r.GetNode(), func() ([]ipam.Block, error) {
		return reg.ForceRelease(ctx, r.GetNode(), r.GetForce())
	})
	if err != nil {
		return nil, errorToWire(err)
	}
	return &onlinkv1.ListReply{Blocks: blocksToWire(blocks)}, nil
}

// TakeOver implements onlinkv1.RegistryServer.
func (s *service) TakeOver(ctx context.Context, r *onlinkv1.TakeOverRequest) (*onlinkv1.ListReply, error) {
	by, err := s.caller(ctx, onlinkv1.Registry_TakeOver_FullMethodName, r.GetBy(), "", r.GetFrom())
	if err != nil {
		return nil, err
	}
	blocks, err := s.audit(ctx, ipam.AuditTakeOver, r.GetFrom(), func() ([]ipam.Block, error) {
		return s.reg.TakeOver(ctx, by, r.GetFrom(), r.GetForce())
	})
	if err != nil {
		return nil, errorToWire(err)
	}
	return &onlinkv1.ListReply{Blocks: blocksToWire(blocks)}, nil
}

// caller returns the caller of a request, which may act for its own node only; from
// is a node that it takes over from, or "".
func (s *service) caller(ctx context.Context, method string, w *onlinkv1.Caller, node, from string) (ipam.Caller, error) {
	by, err := callerFromWire(w, node)
	if err != nil {
		return by, status.Error(codes.InvalidArgument, err.Error())
	}
	return by, s.guard.bind(ctx, method, by, from)
}
