package admin

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"onlink/agent/config"
	"onlink/agent/hold"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/bgp/bfd"
	"onlink/bgp/bmp"
	"onlink/bgp/policy"
	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
	"onlink/rib"
)

// This file translates the agent's values into messages.

func routeToWire(r rib.Route, failed string) *onlinkv1.Route {
	w := &onlinkv1.Route{Prefix: r.Prefix.String(), Kind: r.Kind.String(), Reason: r.Reason.String()}
	for h := range r.Hops.All() {
		via := ""
		if h.Via.IsValid() {
			via = h.Via.String()
		}
		w.Hops = append(w.Hops, &onlinkv1.Hop{Via: via, Dev: h.Dev, Tunnel: h.Tunnel, Reason: h.Reason.String()})
	}
	w.Error = failed
	w.Installed = r.Kind != rib.Unresolved && w.Error == ""
	return w
}

// pathsToWire are the BGP paths to a prefix.
func pathsToWire(list []bgp.PathInfo) []*onlinkv1.Path {
	text := func(a netip.Addr) string {
		if !a.IsValid() {
			return ""
		}
		return a.String()
	}
	var out []*onlinkv1.Path
	for i := range list {
		p := &list[i]
		out = append(out, &onlinkv1.Path{NextHop: text(p.NextHop), Peer: text(p.Peer), OriginatorId: text(p.OriginatorID), Stale: p.Stale})
	}
	return out
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
		PeersTotal: number(total), PeersEstablished: number(established), PeersGone: number(s.Sessions.Gone()),
		RoutesUnicast: number(s.Routes.Counts.ByKind[rib.Unicast]), RoutesTunnelled: number(s.Routes.Counts.Tunnelled),
		RoutesUnresolved: number(s.Routes.Counts.ByKind[rib.Unresolved]), RoutesFailed: number(len(s.Routes.Failed)),
		FibDrift: s.Routes.FIB.Drift,
		Blocks:   number(len(s.IPAM.Blocks)), AddressesUsed: number(used), AddressesTotal: number(size),
		Problems: capped(s.Problems()), Notes: s.Notes, ConfigDigest: s.Config,
	}
	if s.Node.Address6.IsValid() {
		w.Address6 = s.Node.Address6.String()
	}
	if s.Routes.InSync {
		w.Phase = "ready"
	}
	w.Announcements, w.AnnouncementsRejected = number(s.Announcements.Count()), number(s.Announcements.Rejected())
	w.AnnouncementsWithheld = number(s.Announcements.Withheld())
	for _, h := range s.Held {
		w.Held = append(w.Held, heldToWire(h))
	}
	for i := range s.Stations {
		w.Stations = append(w.Stations, stationToWire(&s.Stations[i]))
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

func stationToWire(s *bmp.Status) *onlinkv1.Station {
	w := &onlinkv1.Station{
		Name: s.Name, Address: netip.AddrPortFrom(s.Address, s.Port).String(), Connected: s.Connected, Since: timestamppb.New(s.Since),
		LastError: s.LastError, Connections: s.Connections, Messages: s.Messages, Bytes: s.Bytes, Overflows: s.Overflows, Waiting: number(s.Waiting),
	}
	for _, v := range s.Monitor {
		w.Monitor = append(w.Monitor, string(v))
	}
	if s.LastError != "" {
		w.LastErrorAt = timestamppb.New(s.ErrorAt)
	}
	return w
}

// maxProblems bounds the problems of a status: each failed route is one, and each
// watcher receives them again with every change.
const maxProblems = 200

// capped returns the first problems, and how many more there are.
func capped(list []string) []string {
	if len(list) <= maxProblems {
		return list
	}
	return append(slices.Clone(list[:maxProblems-1]), fmt.Sprintf("%d more problems", len(list)-maxProblems+1))
}

// heldToWire is a change that waits for a confirmation.
func heldToWire(c hold.Change) *onlinkv1.HeldChange {
	return &onlinkv1.HeldChange{What: c.What, Reason: c.Reason, Digest: c.Digest, Since: timestamppb.New(c.Since)}
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
		Trouble: p.Trouble, Gone: p.Gone, Stranger: p.Stranger, Lost: lossToWire(p.Lost),
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

func blockToWire(b ipam.Block) *onlinkv1.Block {
	return &onlinkv1.Block{Cidr: b.CIDR.String(), Pool: b.Pool, Node: b.Node, Epoch: b.Epoch}
}

func blocksToWire(list []ipam.Block) []*onlinkv1.Block {
	var out []*onlinkv1.Block
	for _, b := range list {
		out = append(out, blockToWire(b))
	}
	return out
}

// usageToWire is a block of this node with its use.
func usageToWire(b ipam.BlockUsage) *onlinkv1.Block {
	w := blockToWire(b.Block)
	w.Used, w.Size, w.Cooling, w.Announced = number(b.Used), number(b.Size), number(b.Cooling), b.Confirmed
	return w
}

// poolToWire is a pool with the sums of this node's blocks in it.
func poolToWire(p config.Pool, blocks []ipam.BlockUsage) *onlinkv1.Pool {
	w := &onlinkv1.Pool{
		Name: p.Name, Cidr: p.CIDR.String(), BlockSize: number(p.BlockSize),
		Encapsulation: string(p.Encapsulation), Tunnel: string(p.Tunnel), NatOutgoing: p.NATOutgoing,
	}
	for _, b := range blocks {
		if b.Block.Pool == p.Name {
			w.Blocks++
			w.Used += number(b.Used)
		}
	}
	return w
}

// assignmentToWire is one address of a pod; block is where it is from, the zero
// Prefix when that is not known.
func assignmentToWire(as ipam.Assignment, addr netip.Addr, block netip.Prefix) *onlinkv1.Assignment {
	w := &onlinkv1.Assignment{
		Address: addr.String(), ContainerId: as.ContainerID, Ifname: as.IfName,
		Namespace: as.Namespace, Pod: as.Pod, HostDevice: as.HostDevice, Assigned: timestamppb.New(as.Assigned),
	}
	if block.IsValid() {
		w.Block = block.String()
	}
	return w
}

func auditToWire(e ipam.AuditEntry) *onlinkv1.AuditEntry {
	w := &onlinkv1.AuditEntry{
		Began: timestamppb.New(e.Began), Action: e.Action, Target: e.Target, By: e.By, Done: e.Done, Failed: e.Failed,
	}
	for _, b := range e.Blocks {
		w.Blocks = append(w.Blocks, b.String())
	}
	return w
}

// policyRoute reads the route of a request; missing fields stay zero.
func policyRoute(w *onlinkv1.PolicyRoute) (policy.Route, error) {
	r := policy.Route{
		ASPath: w.GetAsPath(), Communities: w.GetCommunities(), LargeCommunities: w.GetLargeCommunities(), Origin: w.GetOrigin(),
	}
	if w != nil {
		r.LocalPref, r.MED = w.LocalPref, w.Med
	}
	var err error
	if r.Prefix, err = parsePrefixOrAddr(w.GetPrefix()); err != nil {
		return r, status.Errorf(codes.InvalidArgument, "prefix: %v", err)
	}
	if w.GetNextHop() != "" {
		if r.NextHop, err = netip.ParseAddr(w.GetNextHop()); err != nil {
			return r, status.Errorf(codes.InvalidArgument, "next hop: %v", err)
		}
	}
	for _, source := range []policy.Source{policy.Own, policy.Service, policy.Reflected, policy.External} {
		if source.String() == w.GetSource() {
			r.Source = source
		}
	}
	if w.GetSource() != "" && r.Source == policy.AnySource {
		return r, status.Errorf(codes.InvalidArgument, "unknown source %q: use own, service, reflected or external", w.GetSource())
	}
	return r, nil
}

func routeToPolicy(r policy.Route) *onlinkv1.PolicyRoute {
	w := &onlinkv1.PolicyRoute{
		Prefix: r.Prefix.String(), AsPath: r.ASPath, LocalPref: r.LocalPref, Med: r.MED,
		Communities: r.Communities, LargeCommunities: r.LargeCommunities, Origin: r.Origin, Source: r.Source.String(),
	}
	if r.NextHop.IsValid() {
		w.NextHop = r.NextHop.String()
	}
	return w
}
