package agent

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"onlink/agent/state"
	"onlink/bgp/bfd"
	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
	"onlink/rib"
)

// admin is the operator's API. It reads; what belongs to the learn loop is
// asked from the loop.
type admin struct {
	onlinkv1.UnimplementedAdminServer

	a *agent
}

// GetStatus implements onlinkv1.AdminServer.
func (s *admin) GetStatus(ctx context.Context, _ *onlinkv1.GetStatusRequest) (*onlinkv1.Status, error) {
	// A snapshot of now: the operator sees the effects of the command before.
	snap, err := s.a.board.Since(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	return statusToWire(snap), nil
}

// ListPeers implements onlinkv1.AdminServer.
func (s *admin) ListPeers(context.Context, *onlinkv1.ListPeersRequest) (*onlinkv1.ListPeersReply, error) {
	rep := &onlinkv1.ListPeersReply{}
	for _, p := range s.a.speaker.Peers() {
		one := s.a.peerState(p)
		rep.Peers = append(rep.Peers, peerToWire(&one))
	}
	return rep, nil
}

// ListRoutes implements onlinkv1.AdminServer.
func (s *admin) ListRoutes(ctx context.Context, r *onlinkv1.ListRoutesRequest) (*onlinkv1.ListRoutesReply, error) {
	match, err := routeMatcher(r.GetPrefix())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	rep := &onlinkv1.ListRoutesReply{}
	l := s.a.learn
	err = l.do(ctx, func() {
		failed := l.failures()
		for route := range l.table.Routes() {
			if match(route.Prefix) {
				rep.Routes = append(rep.Routes, routeToWire(route, failed))
			}
		}
	})
	return rep, err
}

// ListBlocks implements onlinkv1.AdminServer.
func (s *admin) ListBlocks(ctx context.Context, r *onlinkv1.ListBlocksRequest) (*onlinkv1.ListBlocksReply, error) {
	own := s.a.ownBlocks()
	if !r.GetAll() {
		return &onlinkv1.ListBlocksReply{Blocks: own}, nil
	}
	all, err := s.a.listRegistry(ctx)
	if err != nil {
		return &onlinkv1.ListBlocksReply{Blocks: own, Missing: fmt.Sprintf("the blocks of other nodes: the block registry does not answer (%v); those that are announced are in onlinkctl routes", err)}, nil
	}
	rep := &onlinkv1.ListBlocksReply{}
	for _, b := range all {
		i := slices.IndexFunc(own, func(o *onlinkv1.Block) bool { return o.GetCidr() == b.CIDR.String() })
		if i >= 0 && b.Node == s.a.id.Name {
			rep.Blocks = append(rep.Blocks, own[i])
			continue
		}
		rep.Blocks = append(rep.Blocks, &onlinkv1.Block{Cidr: b.CIDR.String(), Pool: b.Pool, Node: b.Node, Epoch: b.Epoch, Elsewhere: true})
	}
	return rep, nil
}

// ListPools implements onlinkv1.AdminServer.
func (s *admin) ListPools(context.Context, *onlinkv1.ListPoolsRequest) (*onlinkv1.ListPoolsReply, error) {
	rep := &onlinkv1.ListPoolsReply{}
	blocks := s.a.alloc.Blocks()
	for _, p := range s.a.pools() {
		w := &onlinkv1.Pool{
			Name: p.Name, Cidr: p.CIDR.String(), BlockSize: uint32(p.BlockSize), //nolint:gosec // a prefix length
			Encapsulation: string(p.Encapsulation), Tunnel: string(p.Tunnel), NatOutgoing: p.NATOutgoing,
		}
		for _, b := range blocks {
			if b.Block.Pool == p.Name {
				w.Blocks++
				w.Used += uint32(b.Used) //nolint:gosec // bounded by the block size
			}
		}
		rep.Pools = append(rep.Pools, w)
	}
	return rep, nil
}

// ShowIPAM implements onlinkv1.AdminServer.
func (s *admin) ShowIPAM(_ context.Context, r *onlinkv1.ShowIPAMRequest) (*onlinkv1.ShowIPAMReply, error) {
	var only netip.Addr
	if r.GetAddress() != "" {
		var err error
		if only, err = netip.ParseAddr(r.GetAddress()); err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "address: %v", err)
		}
	}
	rep := &onlinkv1.ShowIPAMReply{}
	for _, as := range s.a.alloc.Assignments() {
		for _, addr := range as.Addresses {
			if !only.IsValid() || addr == only {
				rep.Assignments = append(rep.Assignments, s.a.assignmentToWire(as, addr))
			}
		}
	}
	for _, b := range s.a.ownBlocks() {
		if !only.IsValid() || netip.MustParsePrefix(b.GetCidr()).Contains(only) {
			rep.Blocks = append(rep.Blocks, b)
		}
	}
	return rep, nil
}

// routeMatcher selects routes that cover the wanted prefix or are inside it.
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

func routeToWire(r rib.Route, failed map[netip.Prefix]string) *onlinkv1.Route {
	w := &onlinkv1.Route{Prefix: r.Prefix.String(), Kind: r.Kind.String(), Reason: r.Reason.String()}
	for h := range r.Hops.All() {
		via := ""
		if h.Via.IsValid() {
			via = h.Via.String()
		}
		w.Hops = append(w.Hops, &onlinkv1.Hop{Via: via, Dev: h.Dev, Tunnel: h.Tunnel, Reason: h.Reason.String()})
	}
	w.Error = failed[r.Prefix]
	w.Installed = r.Kind != rib.Unresolved && w.Error == ""
	return w
}

// statusToWire is a snapshot as GetStatus sends it.
func statusToWire(s *state.Snapshot) *onlinkv1.Status {
	total, established := s.Sessions.Count()
	used, size := s.IPAM.Addresses()
	w := &onlinkv1.Status{
		Node: s.Node.Name, Version: s.Node.Version, Gobgp: s.Node.Engine, Started: timestamppb.New(s.Node.Started),
		Address: s.Node.Address.String(), Asn: s.Node.ASN, RouterId: s.Node.RouterID.String(),
		Reflector: s.Node.Reflector, Registry: s.Node.Registry, Drain: s.Drain.String(),
		InSync: s.Routes.InSync, Phase: "syncing",
		PeersTotal: number(total), PeersEstablished: number(established),
		RoutesUnicast: number(s.Routes.Counts.ByKind[rib.Unicast]), RoutesTunnelled: number(s.Routes.Counts.Tunnelled),
		RoutesUnresolved: number(s.Routes.Counts.ByKind[rib.Unresolved]), RoutesFailed: number(len(s.Routes.Failed)),
		FibDrift: s.Routes.FIB.Drift,
		Blocks:   number(len(s.IPAM.Blocks)), AddressesUsed: number(used), AddressesTotal: number(size),
		Problems: s.Problems(), Notes: s.Notes,
	}
	if s.Routes.InSync {
		w.Phase = "ready"
	}
	for _, f := range s.Features {
		one := &onlinkv1.Feature{Name: f.Name, Available: f.Available}
		if !f.Available {
			one.Detail = f.Without
		}
		w.Features = append(w.Features, one)
	}
	return w
}

// number is a count as the wire has it.
func number(n int) uint32 { return uint32(min(max(n, 0), math.MaxUint32)) } //nolint:gosec // bounded

func peerToWire(p *state.Peer) *onlinkv1.Peer {
	w := &onlinkv1.Peer{
		Name: p.Name, Address: p.Address.String(), Asn: p.ASN, Role: p.Role.String(), State: p.State,
		Since:      durationpb.New(time.Since(p.Since)),
		PrefixesIn: count(p.Received), Accepted: count(p.Accepted), PrefixesOut: count(p.Advertised),
		Flaps: count(p.Flaps), LastError: p.LastError, EndOfRib: p.EndOfRIB, Dynamic: p.Dynamic,
		Held: p.Held, Bfd: bfdToWire(p.BFD),
		Faults: &onlinkv1.PeerFaults{
			Reset_: p.Faults.Reset, Withdrawn: p.Faults.Withdrawn, Discarded: p.Faults.Discarded,
			Ignored: p.Faults.Ignored, Panics: p.Faults.Panics, Withheld: p.Faults.Withheld,
		},
		Trouble: p.Trouble, Gone: p.Gone, Stranger: p.Stranger,
	}
	if p.LastError != "" {
		w.LastErrorAge = durationpb.New(time.Since(p.ErrorAt))
	}
	if p.Stranger {
		w.Role = ""
	}
	return w
}

// bfdToWire is a peer's BFD session for the operator; nil when there is none.
func bfdToWire(s *bfd.Status) *onlinkv1.BFD {
	if s == nil {
		return nil
	}
	w := &onlinkv1.BFD{
		State: s.State.String(), Since: durationpb.New(time.Since(s.Since)), Downs: s.Downs, RemoteState: s.RemoteState.String(),
		Interval: durationpb.New(s.Interval), Detection: durationpb.New(s.Detection),
	}
	if s.State != bfd.Up {
		w.Diagnostic = s.Diag.String()
	}
	return w
}

// count is n as the wire has it; -1 stands for "not counted" and becomes 0.
func count(n int) uint64 { return uint64(max(n, 0)) }

func (a *agent) ownBlocks() []*onlinkv1.Block {
	var out []*onlinkv1.Block
	for _, b := range a.alloc.Blocks() {
		out = append(out, &onlinkv1.Block{
			Cidr: b.Block.CIDR.String(), Pool: b.Block.Pool, Node: b.Block.Node, Epoch: b.Block.Epoch,
			Used: uint32(b.Used), Size: uint32(b.Size), Cooling: uint32(b.Cooling), //nolint:gosec // bounded by the block size
			Announced: b.Confirmed,
		})
	}
	return out
}

func (a *agent) assignmentToWire(as ipam.Assignment, addr netip.Addr) *onlinkv1.Assignment {
	w := &onlinkv1.Assignment{
		Address: addr.String(), ContainerId: as.ContainerID, Ifname: as.IfName,
		Namespace: as.Namespace, Pod: as.Pod, HostDevice: as.HostDevice, Assigned: timestamppb.New(as.Assigned),
	}
	for _, b := range a.alloc.Blocks() {
		if b.Block.CIDR.Contains(addr) {
			w.Block = b.Block.CIDR.String()
		}
	}
	return w
}
