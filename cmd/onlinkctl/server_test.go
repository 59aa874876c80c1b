package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	onlinkv1 "onlink/proto/v1"
)

// runMain, set in the environment, makes the test binary be onlinkctl.
const runMain = "ONLINKCTL_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// clock is the time at which the tests run onlinkctl.
var clock = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// agent is an Admin service with fixed answers.
type agent struct {
	onlinkv1.UnimplementedAdminServer
	onlinkv1.UnimplementedRuntimeServer
	onlinkv1.UnimplementedNodesServer
	calls atomic.Int32
	hang  bool // answer no GetStatus before the caller gives up
	dies  bool // in the middle of a bundle
	port  uint32
	nodes []*onlinkv1.NodeAddresses
	more  string // behind the text of the configuration
}

func (s *agent) ListNodes(context.Context, *onlinkv1.ListNodesRequest) (*onlinkv1.ListNodesReply, error) {
	return &onlinkv1.ListNodesReply{Nodes: s.nodes, Port: s.port, Missing: "nodes that are new\x1b[2J"}, nil
}

func (s *agent) GetStatus(ctx context.Context, _ *onlinkv1.GetStatusRequest) (*onlinkv1.Status, error) {
	s.calls.Add(1)
	if s.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &onlinkv1.Status{
		Node: "r1n1", Version: "v0.1.0", Gobgp: "gobgp v3.37.0 patched", Address: "10.57.0.11", Asn: 64512, RouterId: "10.57.0.11",
		Started: timestamppb.New(clock.Add(-185 * time.Second)), Reflector: true, InSync: true, Phase: "ready", Drain: "serving",
		PeersTotal: 3, PeersEstablished: 2, RoutesUnicast: 7, RoutesTunnelled: 4, RoutesUnresolved: 1, RoutesFailed: 1,
		Announcements: 3, AnnouncementsRejected: 1, AnnouncementsWithheld: 2,
		Blocks: 2, AddressesUsed: 5, AddressesTotal: 128, FibDrift: 9, Registry: "bolt, served on 10.57.0.11:4790",
		Features: []*onlinkv1.Feature{
			{Name: "nexthop-objects", Available: true},
			{Name: "nftables", Detail: "no masquerading, no tunnel guard"},
			{Name: "ipip"},
		},
		Notes: []string{"ipam.registry.insecure: the registry has no TLS\x1b[2J"},
		Stations: []*onlinkv1.Station{
			{
				Name: "collector", Address: "10.99.0.9:11019", Monitor: []string{"received", "best"}, Connected: true, Since: timestamppb.New(clock.Add(-time.Hour)),
				Connections: 2, Messages: 812, Bytes: 90210, Overflows: 1, LastError: "connection lost\x1b[2J", LastErrorAt: timestamppb.New(clock.Add(-time.Hour)),
			},
			{Name: "archive", Address: "10.99.0.10:5000", Monitor: []string{"accepted"}, Since: timestamppb.New(clock.Add(-time.Minute)), LastError: "connect: connection refused", LastErrorAt: timestamppb.New(clock)},
		},
		Held:     []*onlinkv1.HeldChange{{What: "config", Reason: "2 of 3 peers\x1b[2J", Digest: "5d41402abc4b2a76", Since: timestamppb.New(clock.Add(-time.Minute))}},
		Problems: []string{"peer tor1 is down: see onlinkctl peers", "10.9.0.0/16 belongs to bird\x1b[2J"},
	}, nil
}

func (s *agent) ListPeers(context.Context, *onlinkv1.ListPeersRequest) (*onlinkv1.ListPeersReply, error) {
	s.calls.Add(1)
	return &onlinkv1.ListPeersReply{Peers: []*onlinkv1.Peer{
		{Name: "rr1", Address: "10.57.0.10", Asn: 64512, Role: "ibgp", State: "Established", Since: durationpb.New(3*time.Minute + 5*time.Second), PrefixesIn: 12, Accepted: 11, PrefixesOut: 2, EndOfRib: true, Bfd: &onlinkv1.BFD{State: "Up", RemoteState: "Up", Since: durationpb.New(3 * time.Minute), Interval: durationpb.New(300 * time.Millisecond), Detection: durationpb.New(900 * time.Millisecond)}},
		{Name: "tor1", Address: "fe80::1%eth0", Asn: 65001, Role: "ebgp", State: "Active", Since: durationpb.New(26 * time.Hour), Flaps: 4, LastError: "NOTIFICATION received: Cease/Administrative Shutdown (\"maintenance\x1b[31m\ntill 14:00\")", LastErrorAge: durationpb.New(2 * time.Minute)},
		{Address: "10.57.0.99", Asn: 65009, State: "Idle", Since: durationpb.New(4 * time.Second), LastError: "refused: no peer and no client range has this address (AS 65009, router ID 10.57.0.99)", LastErrorAge: durationpb.New(4 * time.Second), Gone: true, Stranger: true},
		{Name: "rr2", Address: "10.57.0.13", Asn: 64512, Role: "ibgp", State: "Established", Since: durationpb.New(time.Hour), Trouble: "router ID 10.57.0.1 is also that of the peer 10.57.0.14", LastError: "hold timer expired", LastErrorAge: durationpb.New(time.Hour)},
		{Address: "10.57.0.12", Asn: 64512, Role: "client", State: "Established", Since: durationpb.New(59 * time.Second), Dynamic: true},
	}}, nil
}

func (s *agent) GetPeer(_ context.Context, r *onlinkv1.GetPeerRequest) (*onlinkv1.PeerDetail, error) {
	switch r.GetPeer() {
	case "rr1":
		return &onlinkv1.PeerDetail{
			Peer: &onlinkv1.Peer{
				Name: "rr1", Address: "10.57.0.10", Asn: 64512, Role: "ibgp", State: "Established", Since: durationpb.New(3*time.Minute + 5*time.Second),
				PrefixesIn: 12, Accepted: 11, PrefixesOut: 2, EndOfRib: true, Flaps: 1,
				LastError: "hold timer expired\x1b[2J", LastErrorAge: durationpb.New(4 * time.Minute), Faults: &onlinkv1.PeerFaults{Discarded: 2},
				Bfd: &onlinkv1.BFD{State: "Up", Since: durationpb.New(3 * time.Minute), Interval: durationpb.New(300 * time.Millisecond), Detection: durationpb.New(900 * time.Millisecond)},
			},
			Local: "10.57.0.11", LocalRouterId: "10.57.0.11", RemoteRouterId: "10.57.0.10", Families: []string{"ipv4"}, Dials: "both", Password: true,
			Timers: &onlinkv1.PeerTimers{
				Hold: durationpb.New(90 * time.Second), Keepalive: durationpb.New(30 * time.Second), ConnectRetry: durationpb.New(5 * time.Second),
				NegotiatedHold: durationpb.New(30 * time.Second), NegotiatedKeepalive: durationpb.New(10 * time.Second),
			},
			Ours:      []*onlinkv1.Capability{{Code: 1, Name: "family ipv4"}, {Code: 1, Name: "family ipv6"}, {Code: 2, Name: "route refresh"}},
			Theirs:    []*onlinkv1.Capability{{Code: 1, Name: "family ipv4"}, {Code: 64, Name: "graceful restart", Value: "120s, N bit, ipv4 F bit"}, {Code: 73, Name: "host name", Value: "rr1\x1b[2J"}},
			Sent:      &onlinkv1.PeerMessages{Open: 1, Update: 3, Keepalive: 19, Refresh: 1, Total: 24},
			Received:  &onlinkv1.PeerMessages{Open: 1, Update: 7, Keepalive: 20, Total: 28},
			PerFamily: []*onlinkv1.PeerFamily{{Family: "ipv4", Received: 12, Accepted: 11}},
			Groups:    []*onlinkv1.UpdateGroup{{Family: "ipv4", Size: 6, Members: []string{"10.57.0.10", "10.57.0.12", "10.57.0.13", "10.57.0.14", "10.57.0.15", "10.57.0.16"}, Prefixes: 2, Behind: 1}},
		}, nil
	case "10.57.0.12":
		return &onlinkv1.PeerDetail{Peer: &onlinkv1.Peer{
			Name: "clients", Address: "10.57.0.12", Asn: 64512, Role: "client", State: "Idle", Since: durationpb.New(26 * time.Hour), Dynamic: true, Gone: true,
			LastError: "the peer closed the connection without a NOTIFICATION", LastErrorAge: durationpb.New(26 * time.Hour),
			Lost: &onlinkv1.PeerLoss{Received: 6, Accepted: 5, Prefixes: []string{"10.244.1.0/26", "10.244.2.0/26", "10.244.3.0/26", "10.244.4.0/26", "10.244.5.0/26"}},
		}}, nil
	}
	return nil, status.Errorf(codes.NotFound, "no peer has the name or address %q: see onlinkctl peers", r.GetPeer())
}

func (s *agent) ListPeerRoutes(r *onlinkv1.ListPeerRoutesRequest, to grpc.ServerStreamingServer[onlinkv1.PeerRoutes]) error {
	pref := uint32(100)
	switch {
	case r.GetPeer() == "slow":
		<-to.Context().Done()
		return to.Context().Err()
	case r.GetPeer() != "tor1":
		return status.Errorf(codes.FailedPrecondition, "the peer has no session: %s", r.GetPeer())
	case r.GetSet() == onlinkv1.RouteSet_ROUTE_SET_ACCEPTED:
		return nil
	case r.GetSet() == onlinkv1.RouteSet_ROUTE_SET_ADVERTISED:
		return to.Send(&onlinkv1.PeerRoutes{Routes: []*onlinkv1.PeerRoute{{Prefix: r.GetPrefix(), NextHop: "10.57.0.11", AsPath: "64512", State: "not announced", Rule: "the session is not Established", Age: durationpb.New(time.Minute)}}})
	}
	first := &onlinkv1.PeerRoute{
		Prefix: "10.9.1.0/24", NextHop: "10.57.0.1", AsPath: "65001 65010", LocalPref: &pref, Communities: []string{"65001:7", "65001:1:2"}, Origin: "igp",
		State: "accepted", Rule: "filter from-tor rule 2", Age: durationpb.New(time.Hour), Stale: true,
	}
	if err := to.Send(&onlinkv1.PeerRoutes{Routes: []*onlinkv1.PeerRoute{first}}); err != nil {
		return err
	}
	return to.Send(&onlinkv1.PeerRoutes{Routes: []*onlinkv1.PeerRoute{
		{Prefix: "2001:db8:1234:5678::/64", NextHop: "2001:db8::1", Origin: "incomplete", State: "rejected", Rule: "not in import.accept (RFC 8212)\x1b[2J", Age: durationpb.New(time.Second)},
	}})
}

func (s *agent) TestPolicy(_ context.Context, r *onlinkv1.TestPolicyRequest) (*onlinkv1.TestPolicyReply, error) {
	if r.GetPeer() == "nobody" {
		return nil, status.Errorf(codes.NotFound, "no peer has the name or address %q: see onlinkctl peers", r.GetPeer())
	}
	asked := r.GetRoute()
	if r.GetDirection() == onlinkv1.PolicyDirection_POLICY_DIRECTION_IMPORT {
		return &onlinkv1.TestPolicyReply{
			Rule: "not in import.accept (RFC 8212)", Before: asked, After: asked,
			Steps: []*onlinkv1.PolicyStep{{Rule: "not in import.accept (RFC 8212)", Effect: "reject"}},
		}, nil
	}
	pref := uint32(200)
	after := &onlinkv1.PolicyRoute{
		Prefix: asked.GetPrefix(), NextHop: "10.57.0.11", AsPath: "64512 64512", LocalPref: &pref, Med: asked.Med,
		Communities: append([]string{"64512:1"}, asked.GetCommunities()...), Origin: "igp", Source: "own",
	}
	return &onlinkv1.TestPolicyReply{
		Accepted: true, Rule: "filter to-tor rule 2", Before: asked, After: after,
		Steps: []*onlinkv1.PolicyStep{{Rule: "filter to-tor rule 1", Effect: "communities + 64512:1"}, {Rule: "filter to-tor rule 2", Effect: "accept, prepend 64512 x 1"}},
	}, nil
}

func (s *agent) ListRoutes(_ context.Context, r *onlinkv1.ListRoutesRequest) (*onlinkv1.ListRoutesReply, error) {
	all := []*onlinkv1.Route{
		{Prefix: "10.244.0.0/26", Kind: "blackhole", Reason: "own-block", Installed: true},
		{Prefix: "10.244.0.5/32", Kind: "local", Reason: "pod", Installed: true, Hops: []*onlinkv1.Hop{{Dev: "onl0123456789a", Reason: "pod"}}},
		{Prefix: "10.244.1.0/26", Kind: "unicast", Reason: "behind-gateway", Installed: true, Hops: []*onlinkv1.Hop{
			{Via: "10.57.0.12", Dev: "eth0", Reason: "on-link"},
			{Via: "10.58.0.12", Dev: "onlink-ipip", Tunnel: true, Reason: "behind-gateway"},
		}},
		{Prefix: "10.244.2.0/26", Kind: "unresolved", Reason: "next-hop-unreachable", Error: "no route to 10.59.0.1"},
		{Prefix: "203.0.113.7/32", Kind: "announced", Reason: "services: default/web\x1b[2J"},
	}
	if r.GetPrefix() == "" {
		return &onlinkv1.ListRoutesReply{Routes: all}, nil
	}
	reply := &onlinkv1.ListRoutesReply{}
	if r.GetCandidates() && r.GetPrefix() == "10.244.1.0/26" {
		reply.CandidatesLeftOut = 2
		reply.Candidates = []*onlinkv1.PrefixPaths{{Prefix: "10.244.1.0/26", Paths: []*onlinkv1.Path{
			{Peer: "10.57.0.10", PeerName: "rr1", NextHop: "10.57.0.12", LocalPref: 100, Origin: "igp", Age: durationpb.New(time.Minute), State: "best"},
			{Peer: "10.57.0.13", NextHop: "10.57.0.12", AsPath: "65001", LocalPref: 90, Med: 5, Origin: "igp", Age: durationpb.New(time.Hour), State: "not best", Reason: "its LOCAL_PREF 90 is lower than 100 (RFC 4271 section 9.1.1)"},
			{NextHop: "10.57.0.11", LocalPref: 100, Origin: "igp", State: "not best", Reason: "none\x1b[2J"},
		}}}
	}
	for _, route := range all {
		if route.GetPrefix() == r.GetPrefix() {
			reply.Routes = append(reply.Routes, route)
		}
	}
	return reply, nil
}

func (s *agent) ListAnnouncements(context.Context, *onlinkv1.ListAnnouncementsRequest) (*onlinkv1.ListAnnouncementsReply, error) {
	pref := uint32(200)
	return &onlinkv1.ListAnnouncementsReply{Sets: []*onlinkv1.AnnouncementSet{
		{
			Owner: "services", Changed: timestamppb.New(clock.Add(-time.Minute)),
			Announcements: []*onlinkv1.Announcement{
				{Prefix: "203.0.113.7/32", State: "announced", Reason: "default/web\x1b[2J", LocalPref: &pref},
				{Prefix: "203.0.113.8/32", State: "graceful-shutdown", Peers: []string{"tor1", "tor2"}, Reason: "default/api"},
			},
			Rejected: []*onlinkv1.AnnounceRejection{{Prefix: "10.244.1.7/32", Reason: "overlaps the pool 10.244.0.0/16"}},
			Withheld: []*onlinkv1.AnnounceRejection{{Prefix: "203.0.113.9/32", Reason: "the machine has booted since"}},
		},
		{Owner: "operator", Changed: timestamppb.New(clock), Announcements: []*onlinkv1.Announcement{{Prefix: "198.51.100.0/24", State: "withdrawn"}}},
	}}, nil
}

func (s *agent) Announce(_ context.Context, r *onlinkv1.AnnounceRequest) (*onlinkv1.AnnounceReply, error) {
	if len(r.GetAnnouncements()) == 0 && !r.GetConfirm() {
		return &onlinkv1.AnnounceReply{Announced: 2, Held: &onlinkv1.HeldChange{What: "announce " + r.GetOwner(), Reason: "2 of 2 announcements", Digest: "5d41402abc4b2a76"}}, nil
	}
	rep := &onlinkv1.AnnounceReply{}
	for _, a := range r.GetAnnouncements() { // the test sees what arrives
		if a.GetReason() == "" {
			rep.Announced++
			continue
		}
		rep.Rejected = append(rep.Rejected, &onlinkv1.AnnounceRejection{Prefix: a.GetPrefix(), Reason: fmt.Sprint(
			r.GetOwner(), " ", a.GetCommunities(), " ", a.GetPeers(), " ", a.GetLocalPref(), a.LocalPref == nil, " ", a.GetMed(), a.Med == nil, " ", a.GetGracefulShutdown(), " ", a.GetReason())})
	}
	return rep, nil
}

func block() *onlinkv1.Block {
	return &onlinkv1.Block{Cidr: "10.244.0.0/26", Pool: "default", Node: "r1n1", Epoch: 3, Used: 5, Size: 64, Cooling: 1, Announced: true}
}

func (s *agent) ListBlocks(_ context.Context, r *onlinkv1.ListBlocksRequest) (*onlinkv1.ListBlocksReply, error) {
	reply := &onlinkv1.ListBlocksReply{Blocks: []*onlinkv1.Block{block()}}
	if r.GetAll() {
		reply.Blocks = append(reply.Blocks, &onlinkv1.Block{Cidr: "10.244.1.0/26", Pool: "default", Node: "r2n1", Epoch: 1, Elsewhere: true})
		reply.Missing = "blocks that another registry has"
	}
	return reply, nil
}

func (s *agent) ListPools(context.Context, *onlinkv1.ListPoolsRequest) (*onlinkv1.ListPoolsReply, error) {
	return &onlinkv1.ListPoolsReply{Pools: []*onlinkv1.Pool{
		{Name: "default", Cidr: "10.244.0.0/16", BlockSize: 26, Encapsulation: "CrossSubnet", Tunnel: "ipip", NatOutgoing: true, Blocks: 2, Used: 5},
		{Name: "v6", Cidr: "fd00:244::/64", BlockSize: 122, Encapsulation: "Never", Tunnel: "none"},
	}}, nil
}

func (s *agent) ShowIPAM(_ context.Context, r *onlinkv1.ShowIPAMRequest) (*onlinkv1.ShowIPAMReply, error) {
	one := &onlinkv1.Assignment{
		Address: "10.244.0.5", Block: "10.244.0.0/26", ContainerId: "0123456789abcdef0123", Ifname: "eth0",
		Namespace: "default", Pod: "web-1", HostDevice: "onl0123456789a", Assigned: timestamppb.New(clock.Add(-50 * time.Hour)),
	}
	switch r.GetAddress() {
	case "":
		return &onlinkv1.ShowIPAMReply{Blocks: []*onlinkv1.Block{block()}, Assignments: []*onlinkv1.Assignment{one, {Address: "10.244.0.6", Block: "10.244.0.0/26", ContainerId: "short"}}}, nil
	case one.GetAddress():
		return &onlinkv1.ShowIPAMReply{Assignments: []*onlinkv1.Assignment{one}}, nil
	}
	return &onlinkv1.ShowIPAMReply{}, nil
}

func (s *agent) CheckIPAM(_ context.Context, r *onlinkv1.CheckIPAMRequest) (*onlinkv1.CheckIPAMReply, error) {
	reply := &onlinkv1.CheckIPAMReply{Assignments: 5, Blocks: 2}
	if r.GetRepair() {
		reply.Repaired = []string{"freed the addresses of default/web-0, which has ended"}
	} else {
		reply.Problems = []string{"pod default/web-0 has [10.244.0.5], but the pod is gone\x1b[2J"}
	}
	return reply, nil
}

func (s *agent) ReleaseAddress(_ context.Context, r *onlinkv1.ReleaseAddressRequest) (*onlinkv1.ReleaseAddressReply, error) {
	if !r.GetForce() {
		return nil, status.Errorf(codes.FailedPrecondition, "%s belongs to pod default/web-1: cut it off with --force", r.GetAddress())
	}
	return &onlinkv1.ReleaseAddressReply{Assignment: &onlinkv1.Assignment{Address: r.GetAddress(), Namespace: "default", Pod: "web-1"}}, nil
}

func (s *agent) TakeOverNode(_ context.Context, r *onlinkv1.TakeOverNodeRequest) (*onlinkv1.ReleaseNodeReply, error) {
	if !r.GetForce() {
		return nil, status.Error(codes.FailedPrecondition, "node name is held by another machine at 10.57.0.12\x1b[2J")
	}
	return &onlinkv1.ReleaseNodeReply{Blocks: []*onlinkv1.Block{{Cidr: "10.244.7.0/26", Node: r.GetNode()}}}, nil
}

func (s *agent) ReleaseNode(_ context.Context, r *onlinkv1.ReleaseNodeRequest) (*onlinkv1.ReleaseNodeReply, error) {
	if r.GetNode() == "r2n8" && !r.GetForce() {
		return nil, status.Error(codes.FailedPrecondition, "node r2n8 runs; --force takes them nevertheless")
	}
	b := block()
	b.Node = r.GetNode()
	return &onlinkv1.ReleaseNodeReply{Blocks: []*onlinkv1.Block{b}}, nil
}

func (s *agent) AuditIPAM(context.Context, *onlinkv1.AuditIPAMRequest) (*onlinkv1.AuditIPAMReply, error) {
	entry := func(age time.Duration, target string, done bool, failed string, blocks ...string) *onlinkv1.AuditEntry {
		return &onlinkv1.AuditEntry{
			Began: timestamppb.New(clock.Add(-age)), Action: "release-node", Target: target, By: "root (uid 0, pid 7)",
			Done: done, Failed: failed, Blocks: blocks,
		}
	}
	return &onlinkv1.AuditIPAMReply{Entries: []*onlinkv1.AuditEntry{
		entry(time.Minute, "r2n9", false, ""), entry(time.Hour, "r2n8\x1b[2J", true, "registry: no answer"),
		entry(2*time.Hour, "r2n7", true, "", "10.244.1.0/26", "10.244.3.0/26"),
	}}, nil
}

func (s *agent) BackupIPAM(_ *onlinkv1.BackupIPAMRequest, out onlinkv1.Admin_BackupIPAMServer) error {
	for _, part := range []string{"whole ", "file"} {
		if err := out.Send(&onlinkv1.BackupIPAMChunk{Data: []byte(part)}); err != nil {
			return err
		}
	}
	return nil
}

func (s *agent) Explain(_ context.Context, r *onlinkv1.ExplainRequest) (*onlinkv1.ExplainReply, error) {
	steps := []*onlinkv1.ExplainStep{
		{Name: "owner", Ok: true, Detail: "block 10.244.1.0/26 of node r2n1"},
		{Name: "bgp-path", Ok: true, Detail: "next hop 10.58.0.11 from rr1"},
	}
	switch r.GetAddress() {
	case "10.244.1.7":
		return &onlinkv1.ExplainReply{Address: r.GetAddress(), Reachable: true, Steps: steps, Verdict: "tunnelled to 10.58.0.11"}, nil
	case "10.244.1.8":
		broken := &onlinkv1.ExplainStep{Name: "kernel-route", State: "broken", Detail: "the kernel lacks the route", Cause: "route.missing", Fix: "see onlinkctl routes"}
		suspect := &onlinkv1.ExplainStep{Name: "host", Ok: true, State: "suspect", Detail: "rp_filter is strict", Cause: "host.reverse-path", Fix: "set it to 2"}
		return &onlinkv1.ExplainReply{
			Address: r.GetAddress(), From: r.GetFrom(), Steps: append(steps, broken, suspect), Verdict: broken.GetDetail(), Cause: broken.GetCause(), Fix: broken.GetFix(),
			Others: []*onlinkv1.ExplainStep{suspect},
		}, nil
	}
	return nil, status.Errorf(codes.InvalidArgument, "address %s is in no pool", r.GetAddress())
}

// serve runs the service on a socket and returns its path.
func serve(t *testing.T, admin onlinkv1.AdminServer) string {
	t.Helper()
	// Not t.TempDir: a socket's path has at most 107 bytes (unix(7)).
	dir, err := os.MkdirTemp("", "onlinkctl") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	socket := filepath.Join(dir, "admin.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	onlinkv1.RegisterAdminServer(server, admin)
	if current, ok := admin.(*agent); ok {
		onlinkv1.RegisterRuntimeServer(server, current)
		onlinkv1.RegisterNodesServer(server, current)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return socket
}

// onlinkctl runs the command and returns what it printed.
func onlinkctl(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	var out, errOut bytes.Buffer
	cmd := command(func() time.Time { return clock })
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(ctx)
	return out.String(), errOut.String(), err
}

func (s *agent) ControlPeer(_ context.Context, r *onlinkv1.ControlPeerRequest) (*onlinkv1.ControlPeerReply, error) {
	if r.GetPeer() != "tor1" {
		return nil, status.Errorf(codes.NotFound, "no peer has the name or address %q: see onlinkctl peers", r.GetPeer())
	}
	p := &onlinkv1.Peer{Name: "tor1", Address: "10.57.0.1", Asn: 65001, Role: "ebgp", State: "Idle", Since: durationpb.New(time.Second), LastError: "hold timer expired"}
	if r.GetAction() == onlinkv1.PeerAction_PEER_ACTION_DISABLE {
		p.Held = r.GetReason()
	}
	rep := &onlinkv1.ControlPeerReply{Peer: p}
	switch r.GetAction() {
	case onlinkv1.PeerAction_PEER_ACTION_REFRESH_IN, onlinkv1.PeerAction_PEER_ACTION_FORGET:
		rep.Done = "done: " + r.GetAction().String()
	default:
	}
	return rep, nil
}

func (s *agent) GetConfig(context.Context, *onlinkv1.GetConfigRequest) (*onlinkv1.GetConfigReply, error) {
	return &onlinkv1.GetConfigReply{File: "/etc/onlink/onlinkd.yaml", Text: "# ToRs\x1b[31m\nbgp:\n  asn: 64512\n" + s.more, Digest: "0123456789abcdef"}, nil
}

func (s *agent) ReloadConfig(context.Context, *onlinkv1.ReloadConfigRequest) (*onlinkv1.ReloadConfigReply, error) {
	return &onlinkv1.ReloadConfigReply{File: "/etc/onlink/onlinkd.yaml", Digest: "0123456789abcdef"}, nil
}

func (s *agent) ChangeConfig(_ context.Context, r *onlinkv1.ChangeConfigRequest) (*onlinkv1.ChangeConfigReply, error) {
	switch {
	case r.GetIfDigest() == "stale":
		return nil, status.Error(codes.Aborted, "the file has changed since it was read; read it again")
	case len(r.GetEdits()) == 1 && r.GetEdits()[0].GetRemovePeer() == "nobody":
		return nil, status.Error(codes.InvalidArgument, `peers "nobody": there is no such entry`)
	}
	if strings.Contains(r.GetText(), "peers: []") && !r.GetConfirm() {
		held := &onlinkv1.HeldChange{What: "config", Reason: "2 of 3 peers (10.57.0.1, 10.57.0.13)\x1b[2J"}
		if !r.GetDryRun() {
			held.Digest = "5d41402abc4b2a76"
		}
		return &onlinkv1.ChangeConfigReply{Digest: "0123456789abcdef", Held: held}, nil
	}
	rep := &onlinkv1.ChangeConfigReply{Digest: "0123456789abcdef", Changed: r.GetText() != "{}"}
	if r.GetForecast() > 0 {
		rep.Forecast = forecastOf(r)
	}
	return rep, nil
}

// forecastOf is what the agent would do: what the text says.
func forecastOf(r *onlinkv1.ChangeConfigRequest) *onlinkv1.Forecast {
	list := func(count uint64, text string, prefixes ...string) *onlinkv1.ForecastList {
		l := &onlinkv1.ForecastList{Count: count}
		for _, p := range prefixes {
			l.First = append(l.First, &onlinkv1.ForecastRoute{Prefix: p, Text: text})
		}
		return l
	}
	rr := &onlinkv1.SessionForecast{Name: "rr1", Address: "10.57.0.10", Role: "ibgp", Up: true, Fate: "kept", Advertised: 2, Accepted: 40}
	f := &onlinkv1.Forecast{Sessions: []*onlinkv1.SessionForecast{rr}}
	switch {
	case strings.Contains(r.GetText(), "asn"):
		return &onlinkv1.Forecast{Restart: "bgp.asn: needs a restart of onlinkd, which keeps routes and pods"}
	case strings.Contains(r.GetText(), "passwordFile"):
		return &onlinkv1.Forecast{Unknown: "bgp.peers: passwordFile of tor1: no such file\x1b[2J"}
	case strings.Contains(r.GetText(), "tor1"):
		f.Mistakes = []string{"onlinkd.yaml:3: bgp.peers[1].address: 10.57.0.11 is this node's own address: it would be its own peer; write the other router's address"}
		f.Sessions = append(f.Sessions,
			&onlinkv1.SessionForecast{
				Name: "tor1", Address: "10.57.0.1", Role: "ebgp", Up: true, Fate: "reset", Why: "password, ttlSecurity", Advertised: 3, Accepted: 12,
				Withdraws: list(12, "filter to-tor rule 2", "10.244.0.0/26", "10.244.1.0/26"), Drops: list(1, "the session\x1b[2J", "10.9.0.0/16"),
				AnnouncesChanged: list(1, "own prefixes", "192.0.2.0/24"),
			},
			&onlinkv1.SessionForecast{Name: "tor2", Address: "10.57.0.2", Role: "ebgp", Fate: "added", Announces: list(1, "own prefixes", "192.0.2.0/24")},
			&onlinkv1.SessionForecast{Name: "tor3", Address: "10.57.0.3", Role: "ebgp", Fate: "removed"})
		f.Removes = list(1, "via 10.57.0.1 dev eth0", "10.9.0.0/16")
	}
	return f
}

func (s *agent) ListNamespaces(context.Context, *onlinkv1.ListNamespacesRequest) (*onlinkv1.ListNamespacesReply, error) {
	return &onlinkv1.ListNamespacesReply{Namespaces: []*onlinkv1.NamespacePools{
		{Namespace: "prod\x1b[2J", Pools: []string{"prod4", "prod6"}}, {Namespace: "shop", Pools: []string{"shop"}},
	}}, nil
}

func (s *agent) Confirm(_ context.Context, r *onlinkv1.ConfirmRequest) (*onlinkv1.ConfirmReply, error) {
	if r.GetDigest() != "" && r.GetDigest() != "5d41402abc4b2a76" {
		return nil, status.Error(codes.NotFound, "no such change is held")
	}
	return &onlinkv1.ConfirmReply{Change: &onlinkv1.HeldChange{What: "config", Digest: "5d41402abc4b2a76"}}, nil
}

func (s *agent) Drain(_ context.Context, r *onlinkv1.DrainRequest) (*onlinkv1.DrainReply, error) {
	if r.GetWait().AsDuration() > time.Hour {
		return nil, status.Error(codes.InvalidArgument, "wait is not within 0s to 1h0m0s")
	}
	return &onlinkv1.DrainReply{Phase: "drained"}, nil
}

func (s *agent) Undrain(context.Context, *onlinkv1.UndrainRequest) (*onlinkv1.DrainReply, error) {
	return &onlinkv1.DrainReply{Phase: "serving", Prefixes: 3}, nil
}

func (s *agent) GetLogLevels(context.Context, *onlinkv1.GetLogLevelsRequest) (*onlinkv1.LogLevels, error) {
	return &onlinkv1.LogLevels{Configured: "info", Parts: []*onlinkv1.LogLevel{
		{Part: "agent", Level: "info"},
		{Part: "bgp", Level: "debug", By: "uid 0 (root)\x1b[2J", Until: timestamppb.New(clock.Add(10 * time.Minute))},
		{Part: "fib", Level: "error", By: "uid 0 (root)"},
	}}, nil
}

func (s *agent) SetLogLevel(_ context.Context, r *onlinkv1.SetLogLevelRequest) (*onlinkv1.LogLevels, error) {
	rep := &onlinkv1.LogLevels{Configured: "info"}
	for _, p := range r.GetParts() {
		if p == "bpg" {
			return nil, status.Error(codes.InvalidArgument, `parts: "bpg": the log has no such part: use agent, bgp, fib`)
		}
		one := &onlinkv1.LogLevel{Part: p, Level: r.GetLevel(), By: "uid 0 (root)"}
		if r.GetLasts() != nil {
			one.Until = timestamppb.New(clock.Add(r.GetLasts().AsDuration()))
		}
		rep.Parts = append(rep.Parts, one)
	}
	return rep, nil
}
