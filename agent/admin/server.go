// Package admin is the operator's API over gRPC: status, peers, routes, blocks,
// addresses, the configuration, and forced actions, which it records in the
// audit. It reads from the parts of the agent that [Config] names and decides
// nothing. It is the only package of the agent that imports protobuf: wire.go
// has every translation.
package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/status"

	"onlink/agent/state"
	"onlink/bgp"
	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
	"onlink/rib"
)

// Server is the operator's API.
type Server struct {
	onlinkv1.UnimplementedAdminServer
	Config

	health   *health.Server
	watchers *bound // readers of WatchStatus
	listings *bound // readers of ListPeerRoutes
	bundles  *bound // of CollectDiags
}

// New returns the API of the agent that c describes. It is served by the servers
// that [Server.Open] returns, one a socket.
func New(c Config) *Server {
	return &Server{
		Config: c, health: newHealth(), watchers: newBound("watches of the status", maxWatchers, maxWatchersEach),
		listings: newBound("listings of routes", maxListings, maxListingsEach),
		bundles:  newBound("bundles", maxBundles, maxBundlesEach),
	}
}

// GetStatus implements onlinkv1.AdminServer.
func (s *Server) GetStatus(ctx context.Context, _ *onlinkv1.GetStatusRequest) (*onlinkv1.Status, error) {
	// A snapshot of now: the operator sees the effects of the command before.
	snap, err := s.Board.Since(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	return statusToWire(snap), nil
}

// ListPeers implements onlinkv1.AdminServer.
func (s *Server) ListPeers(context.Context, *onlinkv1.ListPeersRequest) (*onlinkv1.ListPeersReply, error) {
	rep := &onlinkv1.ListPeersReply{}
	for _, p := range s.Speaker.Peers() {
		rep.Peers = append(rep.Peers, s.peer(p))
	}
	return rep, nil
}

// ListRoutes implements onlinkv1.AdminServer.
func (s *Server) ListRoutes(ctx context.Context, r *onlinkv1.ListRoutesRequest) (*onlinkv1.ListRoutesReply, error) {
	match, err := routeMatcher(r.GetPrefix())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if (r.GetPaths() || r.GetCandidates()) && r.GetPrefix() == "" {
		return nil, status.Error(codes.InvalidArgument, "paths: each route costs a look-up; name a prefix, such as 10.244.0.0/26")
	}
	rep := &onlinkv1.ListRoutesReply{}
	var decided []rib.Route
	err = s.Routes(ctx, func(route rib.Route, failed string) {
		if match(route.Prefix) {
			rep.Routes = append(rep.Routes, routeToWire(route, failed))
			decided = append(decided, route)
		}
	})
	for i := range decided {
		if k := decided[i].Kind; r.GetPaths() && (k == rib.Unicast || k == rib.Unresolved) {
			rep.Routes[i].Paths = pathsToWire(s.Speaker.Paths(ctx, decided[i].Prefix))
		}
	}
	rep.Routes = append(rep.Routes, s.announcedRoutes(match)...)
	if err == nil && r.GetCandidates() {
		err = s.addCandidates(ctx, r.GetPrefix(), rep)
	}
	return rep, err
}

// ListBlocks implements onlinkv1.AdminServer.
func (s *Server) ListBlocks(ctx context.Context, r *onlinkv1.ListBlocksRequest) (*onlinkv1.ListBlocksReply, error) {
	own := s.ownBlocks()
	if !r.GetAll() {
		return &onlinkv1.ListBlocksReply{Blocks: own}, nil
	}
	all, err := s.Registered(ctx)
	if errors.Is(err, ipam.ErrUnlisted) {
		return &onlinkv1.ListBlocksReply{Blocks: own, Missing: "the blocks of other nodes: the block registry lists only this node's; onlinkctl routes lists the announced ones"}, nil
	}
	if err != nil {
		return &onlinkv1.ListBlocksReply{Blocks: own, Missing: fmt.Sprintf("the blocks of other nodes: the block registry does not answer (%v); onlinkctl routes lists the announced ones", err)}, nil
	}
	rep := &onlinkv1.ListBlocksReply{}
	for _, b := range all {
		i := slices.IndexFunc(own, func(o *onlinkv1.Block) bool { return o.GetCidr() == b.CIDR.String() })
		if i >= 0 && b.Node == s.Node {
			rep.Blocks = append(rep.Blocks, own[i])
			continue
		}
		w := blockToWire(b)
		w.Elsewhere = true
		rep.Blocks = append(rep.Blocks, w)
	}
	return rep, nil
}

// ListPools implements onlinkv1.AdminServer.
func (s *Server) ListPools(context.Context, *onlinkv1.ListPoolsRequest) (*onlinkv1.ListPoolsReply, error) {
	rep := &onlinkv1.ListPoolsReply{}
	blocks := s.Alloc.Blocks()
	for _, p := range s.Pools() {
		rep.Pools = append(rep.Pools, poolToWire(p, blocks))
	}
	return rep, nil
}

// ShowIPAM implements onlinkv1.AdminServer.
func (s *Server) ShowIPAM(_ context.Context, r *onlinkv1.ShowIPAMRequest) (*onlinkv1.ShowIPAMReply, error) {
	var only netip.Addr
	if r.GetAddress() != "" {
		var err error
		if only, err = netip.ParseAddr(r.GetAddress()); err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "address: %v", err)
		}
	}
	rep := &onlinkv1.ShowIPAMReply{}
	for _, as := range s.Alloc.Assignments() {
		for _, addr := range as.Addresses {
			if !only.IsValid() || addr == only {
				rep.Assignments = append(rep.Assignments, s.assignment(as, addr))
			}
		}
	}
	for _, b := range s.ownBlocks() {
		if !only.IsValid() || netip.MustParsePrefix(b.GetCidr()).Contains(only) {
			rep.Blocks = append(rep.Blocks, b)
		}
	}
	return rep, nil
}

// routeMatcher selects routes that cover the given prefix or are inside it.
func routeMatcher(want string) (func(netip.Prefix) bool, error) {
	if want == "" {
		return func(netip.Prefix) bool { return true }, nil
	}
	p, err := parsePrefixOrAddr(want)
	if err != nil {
		return nil, err
	}
	return p.Overlaps, nil
}

func parsePrefixOrAddr(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// peer is a session with the BFD session beside it, as operators see it.
func (s *Server) peer(p bgp.PeerStatus) *onlinkv1.Peer {
	one := state.Peer{PeerStatus: p}
	if live, watched := s.BFD(p.Address); watched {
		one.BFD = &live
	}
	return peerToWire(&one)
}

// ownBlocks are the blocks of this node.
func (s *Server) ownBlocks() []*onlinkv1.Block {
	var out []*onlinkv1.Block
	for _, b := range s.Alloc.Blocks() {
		out = append(out, usageToWire(b))
	}
	return out
}

// assignment is a pod's address with the block that it is from.
func (s *Server) assignment(as ipam.Assignment, addr netip.Addr) *onlinkv1.Assignment {
	var block netip.Prefix
	for _, b := range s.Alloc.Blocks() {
		if b.Block.CIDR.Contains(addr) {
			block = b.Block.CIDR
		}
	}
	return assignmentToWire(as, addr, block)
}
