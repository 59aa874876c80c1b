package admin

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"onlink/bgp"
	"onlink/bgp/policy"
	onlinkv1 "onlink/proto/v1"
)

// TestGetPeer: a session in detail, with the first members of a large group and their
// number.
func TestGetPeer(t *testing.T) {
	b := &bed{peers: []bgp.PeerStatus{{Name: "tor", Address: ip("10.57.0.1"), State: "Idle", Families: []bgp.Family{bgp.IPv4}, Lost: bgp.Loss{Received: 3, Accepted: 1, Prefixes: []netip.Prefix{pfx("10.244.1.0/26")}}}}}
	d, err := b.server(t).GetPeer(t.Context(), &onlinkv1.GetPeerRequest{Peer: "tor"})
	if err != nil {
		t.Fatal(err)
	}
	g := d.GetGroups()[0]
	for what, pair := range map[string][2]any{
		"peer":       {d.GetPeer().GetName(), "tor"},
		"lost":       {d.GetPeer().GetLost().GetPrefixes()[0], "10.244.1.0/26"},
		"addresses":  {d.GetLocal() + " " + d.GetRemoteRouterId(), "10.57.0.11 10.57.0.1"},
		"hold":       {d.GetTimers().GetHold().GetSeconds(), int64(90)},
		"negotiated": {d.GetTimers().GetNegotiatedHold().GetSeconds(), int64(30)},
		"capability": {d.GetTheirs()[0].GetName(), "route refresh"},
		"messages":   {d.GetReceived().GetUpdate(), uint64(4)},
		"families":   {d.GetFamilies()[0], "ipv4"},
		"per family": {d.GetPerFamily()[0].GetFamily(), "ipv6"},
		"dials":      {d.GetDials(), "peer-first"},
		"group":      {[3]any{g.GetSize(), len(g.GetMembers()), g.GetBehind()}, [3]any{uint32(40), groupMembersShown, uint64(2)}},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
		}
	}
	_, err = b.server(t).GetPeer(t.Context(), &onlinkv1.GetPeerRequest{Peer: "spine"})
	wantCode(t, err, codes.NotFound)
}

// TestListPeerRoutes: routes are sent some at a time, in their order; what a request lacks
// is refused by name; an error of the reader ends the listing.
func TestListPeerRoutes(t *testing.T) {
	b := &bed{peers: []bgp.PeerStatus{{Name: "tor", Address: ip("10.57.0.1")}}}
	for i := range 2*routesAtOnce + 1 {
		b.peerRoutes = append(b.peerRoutes, bgp.PeerRoute{
			Route: policy.Route{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), 32)}, State: "rejected", Rule: "not in import.accept (RFC 8212)",
		})
	}
	var sizes []int
	var last *onlinkv1.PeerRoute
	send := func(m *onlinkv1.PeerRoutes) error {
		sizes = append(sizes, len(m.GetRoutes()))
		last = m.GetRoutes()[len(m.GetRoutes())-1]
		return nil
	}
	req := &onlinkv1.ListPeerRoutesRequest{Peer: "tor", Set: onlinkv1.RouteSet_ROUTE_SET_REJECTED, Prefix: "10.9.0.7"}
	if err := b.server(t).sendRoutes(t.Context(), req, send); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{routesAtOnce, routesAtOnce, 1}, sizes); diff != "" {
		t.Error(diff)
	}
	if last.GetPrefix() != "10.9.1.0/32" || last.GetState() != "rejected" || last.GetRule() == "" || last.LocalPref != nil {
		t.Errorf("the last route is %v", last)
	}
	if diff := cmp.Diff([]string{"routes 10.57.0.1 3 10.9.0.7/32"}, b.did); diff != "" {
		t.Error(diff)
	}
	gone := errors.New("the reader is gone")
	if err := b.server(t).sendRoutes(t.Context(), req, func(*onlinkv1.PeerRoutes) error { return gone }); err == nil {
		t.Error("no error though the reader is gone")
	}
	for _, c := range []struct {
		req  *onlinkv1.ListPeerRoutesRequest
		err  error
		want codes.Code
	}{
		{&onlinkv1.ListPeerRoutesRequest{Peer: "spine", Set: 1}, nil, codes.NotFound},
		{&onlinkv1.ListPeerRoutesRequest{Peer: "tor"}, nil, codes.InvalidArgument},
		{&onlinkv1.ListPeerRoutesRequest{Peer: "tor", Set: 1, Prefix: "10.9"}, nil, codes.InvalidArgument},
		{&onlinkv1.ListPeerRoutesRequest{Peer: "tor", Set: 1}, bgp.ErrNoSession, codes.FailedPrecondition},
		{&onlinkv1.ListPeerRoutesRequest{Peer: "tor", Set: 1}, context.Canceled, codes.Canceled},
		{&onlinkv1.ListPeerRoutesRequest{Peer: "tor", Set: 1}, errors.New("broken"), codes.Internal},
	} {
		b.err = c.err
		wantCode(t, b.server(t).sendRoutes(t.Context(), c.req, send), c.want)
	}
}

// TestCandidates: a prefix brings all paths to it with the names of their peers; prefixes
// beyond the bound are counted.
func TestCandidates(t *testing.T) {
	b := &bed{peers: []bgp.PeerStatus{{Name: "tor", Address: ip("10.57.0.1")}}}
	b.candidates = append(b.candidates,
		bgp.Candidate{PathInfo: bgp.PathInfo{Prefix: pfx("10.9.1.0/24"), Peer: ip("10.57.0.1"), NextHop: ip("10.57.0.1"), LocalPref: 100}, State: bgp.PathBest},
	)
	rep, err := b.server(t).ListRoutes(t.Context(), &onlinkv1.ListRoutesRequest{Prefix: "10.9.1.7", Candidates: true})
	if err != nil || len(rep.GetCandidates()) != 1 || len(rep.GetCandidates()[0].GetPaths()) != 1 {
		t.Fatalf("%v, %v", rep, err)
	}
	if p := rep.GetCandidates()[0].GetPaths()[0]; p.GetPeerName() != "tor" || p.GetState() != "best" || p.GetLocalPref() != 100 {
		t.Errorf("%v", p)
	}
	if rep, err = b.server(t).ListRoutes(t.Context(), &onlinkv1.ListRoutesRequest{Prefix: "10.9.1.7"}); err != nil || len(rep.GetCandidates()) != 0 {
		t.Errorf("paths that were not requested: %v, %v", rep, err)
	}
	for i := range maxPathPrefixes {
		b.candidates = append(b.candidates, bgp.Candidate{PathInfo: bgp.PathInfo{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, 2, byte(i)}), 32)}})
	}
	rep, err = b.server(t).ListRoutes(t.Context(), &onlinkv1.ListRoutesRequest{Prefix: "10.9.0.0/16", Candidates: true})
	if err != nil || len(rep.GetCandidates()) != maxPathPrefixes || rep.GetCandidatesLeftOut() != 1 {
		t.Errorf("%d prefixes, %d left out, %v", len(rep.GetCandidates()), rep.GetCandidatesLeftOut(), err)
	}
}

// TestForget: only a peer that is gone is forgotten, and the answer has it as it was.
func TestForget(t *testing.T) {
	b := &bed{peers: []bgp.PeerStatus{{Name: "clients", Address: ip("10.57.0.10"), Dynamic: true, Gone: true, Seen: true}}}
	rep, err := b.server(t).ControlPeer(t.Context(), &onlinkv1.ControlPeerRequest{Peer: "10.57.0.10", Action: onlinkv1.PeerAction_PEER_ACTION_FORGET})
	if err != nil || rep.GetPeer().GetAddress() != "10.57.0.10" || rep.GetDone() == "" {
		t.Errorf("%v, %v", rep, err)
	}
	if diff := cmp.Diff([]string{"forget 10.57.0.10"}, b.did); diff != "" {
		t.Error(diff)
	}
}
