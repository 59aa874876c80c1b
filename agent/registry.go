package agent

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/agent/admin"
	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// registryServer lends this agent's block registry to the other nodes.
type registryServer struct {
	onlinkv1.UnimplementedRegistryServer

	reg   ipam.Registry
	audit admin.Auditor
	guard *registryGuard // nil: no caller is bound to its address
}

// remoteRegistry is another agent's registry seen from here: ipam.Registry
// over gRPC. Every call is bounded by the caller's context.
type remoteRegistry struct {
	client onlinkv1.RegistryClient
}

func newRemoteRegistry(cc grpc.ClientConnInterface) *remoteRegistry {
	return &remoteRegistry{onlinkv1.NewRegistryClient(cc)}
}

// Claim implements onlinkv1.RegistryServer.
func (s *registryServer) Claim(ctx context.Context, r *onlinkv1.ClaimRequest) (*onlinkv1.ClaimReply, error) {
	req, err := claimFromWire(r)
	if err == nil {
		err = req.Validate()
	}
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := s.guard.bind(ctx, req.Caller); err != nil {
		return nil, err
	}
	b, err := s.reg.Claim(ctx, req)
	if err != nil {
		return nil, registryStatus(err)
	}
	return &onlinkv1.ClaimReply{Block: blockToWire(b)}, nil
}

// Release implements onlinkv1.RegistryServer.
func (s *registryServer) Release(ctx context.Context, r *onlinkv1.ReleaseRequest) (*onlinkv1.ReleaseReply, error) {
	b, err := blockFromWire(r.GetBlock())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	by, err := s.caller(ctx, r.GetBy(), b.Node)
	if err != nil {
		return nil, err
	}
	if err := s.reg.Release(ctx, by, b); err != nil {
		return nil, registryStatus(err)
	}
	return &onlinkv1.ReleaseReply{}, nil
}

// Assert implements onlinkv1.RegistryServer.
func (s *registryServer) Assert(ctx context.Context, r *onlinkv1.AssertRequest) (*onlinkv1.AssertReply, error) {
	held, err := blocksFromWire(r.GetBlocks())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	by, err := s.caller(ctx, r.GetBy(), r.GetNode())
	if err != nil {
		return nil, err
	}
	lost, err := s.reg.Assert(ctx, by, held)
	if err != nil {
		return nil, registryStatus(err)
	}
	return &onlinkv1.AssertReply{Lost: blocksToWire(lost)}, nil
}

// List implements onlinkv1.RegistryServer.
func (s *registryServer) List(ctx context.Context, r *onlinkv1.ListRequest) (*onlinkv1.ListReply, error) {
	blocks, err := s.reg.List(ctx, r.GetNode())
	if err != nil {
		return nil, registryStatus(err)
	}
	return &onlinkv1.ListReply{Blocks: blocksToWire(blocks)}, nil
}

// Nodes implements onlinkv1.RegistryServer.
func (s *registryServer) Nodes(ctx context.Context, _ *onlinkv1.NodesRequest) (*onlinkv1.NodesReply, error) {
	reg, ok := s.reg.(ipam.NodeLister)
	if !ok {
		return nil, status.Error(codes.Unimplemented, "this registry cannot list nodes")
	}
	nodes, err := reg.Nodes(ctx)
	if err != nil {
		return nil, registryStatus(err)
	}
	return nodesToWire(nodes), nil
}

// Nodes implements ipam.NodeLister. A registry of a version before does not
// know any.
func (c *remoteRegistry) Nodes(ctx context.Context) ([]ipam.Node, error) {
	rep, err := c.client.Nodes(ctx, &onlinkv1.NodesRequest{})
	if status.Code(err) == codes.Unimplemented {
		return nil, nil
	}
	if err != nil {
		return nil, registryError(err)
	}
	return nodesFromWire(rep)
}

// ForceRelease implements onlinkv1.RegistryServer.
func (s *registryServer) ForceRelease(ctx context.Context, r *onlinkv1.ForceReleaseRequest) (*onlinkv1.ListReply, error) {
	reg, ok := s.reg.(ipam.ForceReleaser)
	if !ok {
		return nil, status.Error(codes.Unimplemented, "this registry cannot release by force")
	}
	blocks, err := s.audit.Do(ctx, ipam.AuditReleaseNode, r.GetNode(), func() ([]ipam.Block, error) {
		return reg.ForceRelease(ctx, r.GetNode())
	})
	if err != nil {
		return nil, registryStatus(err)
	}
	return &onlinkv1.ListReply{Blocks: blocksToWire(blocks)}, nil
}

// TakeOver implements onlinkv1.RegistryServer.
func (s *registryServer) TakeOver(ctx context.Context, r *onlinkv1.TakeOverRequest) (*onlinkv1.ListReply, error) {
	by, err := s.caller(ctx, r.GetBy(), "")
	if err != nil {
		return nil, err
	}
	blocks, err := s.audit.Do(ctx, ipam.AuditTakeOver, r.GetFrom(), func() ([]ipam.Block, error) {
		return s.reg.TakeOver(ctx, by, r.GetFrom(), r.GetForce())
	})
	if err != nil {
		return nil, registryStatus(err)
	}
	return &onlinkv1.ListReply{Blocks: blocksToWire(blocks)}, nil
}

// caller reads who asks, and makes sure that it asks for itself.
func (s *registryServer) caller(ctx context.Context, w *onlinkv1.Caller, node string) (ipam.Caller, error) {
	by, err := callerFromWire(w, node)
	if err != nil {
		return by, status.Error(codes.InvalidArgument, err.Error())
	}
	return by, s.guard.bind(ctx, by)
}

// ForceRelease implements ipam.ForceReleaser.
func (c *remoteRegistry) ForceRelease(ctx context.Context, node string) ([]ipam.Block, error) {
	rep, err := c.client.ForceRelease(ctx, &onlinkv1.ForceReleaseRequest{Node: node})
	if err != nil {
		return nil, registryError(err)
	}
	return blocksFromWire(rep.GetBlocks())
}

// Claim implements ipam.Registry.
func (c *remoteRegistry) Claim(ctx context.Context, r ipam.ClaimRequest) (ipam.Block, error) {
	rep, err := c.client.Claim(ctx, claimToWire(r))
	if err != nil {
		return ipam.Block{}, registryError(err)
	}
	return blockFromWire(rep.GetBlock())
}

// Release implements ipam.Registry.
func (c *remoteRegistry) Release(ctx context.Context, by ipam.Caller, b ipam.Block) error {
	_, err := c.client.Release(ctx, &onlinkv1.ReleaseRequest{Block: blockToWire(b), By: callerToWire(by)})
	return registryError(err)
}

// Assert implements ipam.Registry.
func (c *remoteRegistry) Assert(ctx context.Context, by ipam.Caller, held []ipam.Block) ([]ipam.Block, error) {
	rep, err := c.client.Assert(ctx, &onlinkv1.AssertRequest{Node: by.Node, Blocks: blocksToWire(held), By: callerToWire(by)})
	if err != nil {
		return nil, registryError(err)
	}
	return blocksFromWire(rep.GetLost())
}

// List implements ipam.Registry.
func (c *remoteRegistry) List(ctx context.Context, node string) ([]ipam.Block, error) {
	rep, err := c.client.List(ctx, &onlinkv1.ListRequest{Node: node})
	if err != nil {
		return nil, registryError(err)
	}
	return blocksFromWire(rep.GetBlocks())
}

// TakeOver implements ipam.Registry.
func (c *remoteRegistry) TakeOver(ctx context.Context, by ipam.Caller, from string, force bool) ([]ipam.Block, error) {
	rep, err := c.client.TakeOver(ctx, &onlinkv1.TakeOverRequest{By: callerToWire(by), From: from, Force: force})
	if err != nil {
		return nil, registryError(err)
	}
	return blocksFromWire(rep.GetBlocks())
}
