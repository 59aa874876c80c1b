package remote

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

func callerToWire(c ipam.Caller) *onlinkv1.Caller {
	w := &onlinkv1.Caller{Node: c.Node, Instance: c.Instance, PeriodMs: uint32(c.Period / time.Millisecond)} //nolint:gosec // minutes
	if c.Address.IsValid() {
		w.Address = c.Address.String()
	}
	if c.Address6.IsValid() {
		w.Address6 = c.Address6.String()
	}
	return w
}

// callerFromWire returns the caller of a request. node is the name in the
// request's own fields: the only one that a client of the version before Caller
// sends.
func callerFromWire(w *onlinkv1.Caller, node string) (ipam.Caller, error) {
	c := ipam.Caller{Node: node}
	if w == nil {
		return c, nil
	}
	if node != "" && w.GetNode() != node {
		return c, fmt.Errorf("node %q calls for node %q", w.GetNode(), node)
	}
	c.Node, c.Instance, c.Period = w.GetNode(), w.GetInstance(), time.Duration(w.GetPeriodMs())*time.Millisecond
	for _, f := range []struct {
		name, text string
		to         *netip.Addr
	}{{"address", w.GetAddress(), &c.Address}, {"address6", w.GetAddress6(), &c.Address6}} {
		if f.text == "" {
			continue
		}
		addr, err := netip.ParseAddr(f.text)
		if err != nil {
			return c, fmt.Errorf("%s: %w", f.name, err)
		}
		*f.to = addr
	}
	return c, nil
}

func heldToWire(e *ipam.HeldError) *onlinkv1.NameHeld {
	return &onlinkv1.NameHeld{
		Name: e.Node, Holder: callerToWire(e.Holder.Caller), By: callerToWire(e.By), Since: e.Holder.Since.Unix(),
		AgeMs: uint64(max(e.Age, 0) / time.Millisecond), Silent: e.Silent, //nolint:gosec // not negative
	}
}

func heldFromWire(w *onlinkv1.NameHeld) (*ipam.HeldError, error) {
	holder, err := callerFromWire(w.GetHolder(), "")
	if err != nil {
		return nil, err
	}
	by, err := callerFromWire(w.GetBy(), "")
	if err != nil {
		return nil, err
	}
	return &ipam.HeldError{
		Node: w.GetName(), Holder: ipam.Holder{Caller: holder, Since: time.Unix(w.GetSince(), 0)}, By: by,
		Age: time.Duration(min(w.GetAgeMs(), 1<<40)) * time.Millisecond, Silent: w.GetSilent(), //nolint:gosec // bounded
	}, nil
}

// wireErrors are the errors of [ipam.Registry] and the status code that carries
// each: the client returns the one that the server's registry returned.
var wireErrors = []struct {
	err  error
	code codes.Code
}{
	{ipam.ErrPoolExhausted, codes.ResourceExhausted},
	{ipam.ErrBlockTaken, codes.AlreadyExists},
	{ipam.ErrNotOwner, codes.FailedPrecondition},
	{ipam.ErrSettling, codes.Aborted},
	{ipam.ErrInvalidRequest, codes.InvalidArgument},
	{ipam.ErrRefused, codes.PermissionDenied},
}

// errorToWire returns the gRPC status of a registry's error.
func errorToWire(err error) error {
	if held, ok := errors.AsType[*ipam.HeldError](err); ok {
		st, derr := status.New(codes.PermissionDenied, err.Error()).WithDetails(heldToWire(held))
		if derr == nil {
			return st.Err()
		}
	}
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

// errorFromWire returns the error that a gRPC status of the named registry carries.
func errorFromWire(name string, err error) error {
	if err == nil {
		return nil
	}
	st := status.Convert(err)
	for _, d := range st.Details() {
		if w, ok := d.(*onlinkv1.NameHeld); ok {
			if held, herr := heldFromWire(w); herr == nil {
				return fmt.Errorf("%s: %w", name, held)
			}
		}
	}
	if lacksRole(st) {
		return fmt.Errorf("%s: %w: %s", name, ipam.ErrNotPermitted, st.Message())
	}
	for _, w := range wireErrors {
		if st.Code() == w.code {
			return fmt.Errorf("%s: %w (%s)", name, w.err, st.Message())
		}
	}
	return fmt.Errorf("%s: %s", name, st.Message())
}

func claimToWire(r ipam.ClaimRequest) *onlinkv1.ClaimRequest {
	w := &onlinkv1.ClaimRequest{
		Node: r.Node, By: callerToWire(r.Caller), Pool: r.Pool, PoolCidr: r.PoolCIDR.String(), BlockSize: uint32(r.BlockSize), //nolint:gosec // 0 to 128
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
	r := ipam.ClaimRequest{Pool: w.GetPool(), BlockSize: int(w.GetBlockSize())}
	var err error
	if r.Caller, err = callerFromWire(w.GetBy(), w.GetNode()); err != nil {
		return r, err
	}
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

func nodesToWire(nodes []ipam.Node) *onlinkv1.NodesReply {
	out := &onlinkv1.NodesReply{}
	for _, n := range nodes {
		w := &onlinkv1.NodeAddresses{Node: n.Name}
		for _, a := range n.Addresses {
			w.Addresses = append(w.Addresses, a.String())
		}
		out.Nodes = append(out.Nodes, w)
	}
	return out
}

func nodesFromWire(w *onlinkv1.NodesReply) ([]ipam.Node, error) {
	var out []ipam.Node
	for _, n := range w.GetNodes() {
		one := ipam.Node{Name: n.GetNode()}
		for _, text := range n.GetAddresses() {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("address of node %q: %w", n.GetNode(), err)
			}
			one.Addresses = append(one.Addresses, a)
		}
		out = append(out, one)
	}
	return out, nil
}
