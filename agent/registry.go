package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// registryServer lends this agent's block registry to the other nodes.
type registryServer struct {
	onlinkv1.UnimplementedRegistryServer

	reg   ipam.Registry
	audit auditor
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
	if err := s.reg.Release(ctx, b); err != nil {
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
	lost, err := s.reg.Assert(ctx, r.GetNode(), held)
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

// ForceRelease implements onlinkv1.RegistryServer.
func (s *registryServer) ForceRelease(ctx context.Context, r *onlinkv1.ForceReleaseRequest) (*onlinkv1.ListReply, error) {
	reg, ok := s.reg.(ipam.ForceReleaser)
	if !ok {
		return nil, status.Error(codes.Unimplemented, "this registry cannot release by force")
	}
	blocks, err := s.audit.do(ctx, auditReleaseNode, r.GetNode(), func() ([]ipam.Block, error) {
		return reg.ForceRelease(ctx, r.GetNode())
	})
	if err != nil {
		return nil, registryStatus(err)
	}
	return &onlinkv1.ListReply{Blocks: blocksToWire(blocks)}, nil
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
func (c *remoteRegistry) Release(ctx context.Context, b ipam.Block) error {
	_, err := c.client.Release(ctx, &onlinkv1.ReleaseRequest{Block: blockToWire(b)})
	return registryError(err)
}

// Assert implements ipam.Registry.
func (c *remoteRegistry) Assert(ctx context.Context, node string, held []ipam.Block) ([]ipam.Block, error) {
	rep, err := c.client.Assert(ctx, &onlinkv1.AssertRequest{Node: node, Blocks: blocksToWire(held)})
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

// wireErrors is what ipam tells apart and must survive the wire, in both
// directions.
var wireErrors = []struct {
	err  error
	code codes.Code
}{
	{ipam.ErrPoolExhausted, codes.ResourceExhausted},
	{ipam.ErrBlockTaken, codes.AlreadyExists},
	{ipam.ErrNotOwner, codes.FailedPrecondition},
	{ipam.ErrSettling, codes.Aborted},
	{ipam.ErrInvalidRequest, codes.InvalidArgument},
}

func registryStatus(err error) error {
	for _, w := range wireErrors {
		if errors.Is(err, w.err) {
			return status.Error(w.code, err.Error())
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Unavailable, err.Error())
}

func registryError(err error) error {
	if err == nil {
		return nil
	}
	st := status.Convert(err)
	for _, w := range wireErrors {
		if st.Code() == w.code {
			return fmt.Errorf("registry: %w (%s)", w.err, st.Message())
		}
	}
	return fmt.Errorf("registry: %s", st.Message())
}

func claimToWire(r ipam.ClaimRequest) *onlinkv1.ClaimRequest {
	w := &onlinkv1.ClaimRequest{
		Node: r.Node, Pool: r.Pool, PoolCidr: r.PoolCIDR.String(), BlockSize: uint32(r.BlockSize), //nolint:gosec // 0 to 128
	}
	for _, p := range r.Reserved {
		w.Reserved = append(w.Reserved, p.String())
	}
	if r.Block.IsValid() {
		w.Block = r.Block.String()
	}
	return w
}

func claimFromWire(w *onlinkv1.ClaimRequest) (ipam.ClaimRequest, error) {
	r := ipam.ClaimRequest{Node: w.GetNode(), Pool: w.GetPool(), BlockSize: int(w.GetBlockSize())}
	var err error
	if r.PoolCIDR, err = netip.ParsePrefix(w.GetPoolCidr()); err != nil {
		return r, fmt.Errorf("pool_cidr: %w", err)
	}
	for _, s := range w.GetReserved() {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return r, fmt.Errorf("reserved: %w", err)
		}
		r.Reserved = append(r.Reserved, p)
	}
	if w.GetBlock() != "" {
		if r.Block, err = netip.ParsePrefix(w.GetBlock()); err != nil {
			return r, fmt.Errorf("block: %w", err)
		}
	}
	return r, nil
}

func blockToWire(b ipam.Block) *onlinkv1.OwnedBlock {
	return &onlinkv1.OwnedBlock{Cidr: b.CIDR.String(), Pool: b.Pool, Node: b.Node, Epoch: b.Epoch}
}

func blockFromWire(b *onlinkv1.OwnedBlock) (ipam.Block, error) {
	cidr, err := netip.ParsePrefix(b.GetCidr())
	if err != nil {
		return ipam.Block{}, fmt.Errorf("block cidr: %w", err)
	}
	return ipam.Block{CIDR: cidr, Pool: b.GetPool(), Node: b.GetNode(), Epoch: b.GetEpoch()}, nil
}

func blocksToWire(blocks []ipam.Block) []*onlinkv1.OwnedBlock {
	out := make([]*onlinkv1.OwnedBlock, len(blocks))
	for i, b := range blocks {
		out[i] = blockToWire(b)
	}
	return out
}

func blocksFromWire(blocks []*onlinkv1.OwnedBlock) ([]ipam.Block, error) {
	out := make([]ipam.Block, len(blocks))
	for i, b := range blocks {
		var err error
		if out[i], err = blockFromWire(b); err != nil {
			return nil, err
		}
	}
	return out, nil
}
