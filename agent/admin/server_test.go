package admin

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	"onlink/agent/config"
	"onlink/agent/drain"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/bgp/bfd"
	"onlink/fib"
	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
	"onlink/rib"
)

// TestStatus: a snapshot goes over the wire as it is.
func TestStatus(t *testing.T) {
	b := &bed{snapshot: &state.Snapshot{
		Node:     state.Node{Name: "n1", Version: "1.0", Engine: "gobgp", Started: time.Unix(7, 0), Address: ip("10.57.0.11"), ASN: 64512, RouterID: ip("10.57.0.11"), Reflector: true, Registry: "bolt"},
		Features: []state.Feature{{Name: "ipip", Available: true, Without: "x"}, {Name: "nftables", Without: "no masquerading"}},
		Notes:    []string{"insecure"}, Found: []string{"look here"},
		Drain: drain.Leaving,
		Routes: state.Routes{
			Counts: rib.Counts{Tunnelled: 2, ByKind: map[rib.Kind]int{rib.Unicast: 5, rib.Unresolved: 1}},
			FIB:    fib.Stats{Drift: 4}, Failed: map[netip.Prefix]string{pfx("10.244.9.0/26"): "refused"},
		},
		Sessions: state.Sessions{Peers: []state.Peer{
			{PeerStatus: bgp.PeerStatus{State: state.Established}},
			{PeerStatus: bgp.PeerStatus{State: "Idle"}},
			{PeerStatus: bgp.PeerStatus{State: "Idle", Gone: true}},
		}},
		IPAM: state.IPAM{Blocks: []ipam.BlockUsage{{Used: 3, Size: 64, Confirmed: true}, {Used: 1, Size: 64, Confirmed: true}}},
	}}
	st, err := b.server(t).GetStatus(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2]any{
		"node":      {st.GetNode(), "n1"},
		"address":   {st.GetAddress(), "10.57.0.11"},
		"started":   {st.GetStarted().GetSeconds(), int64(7)},
		"reflector": {st.GetReflector(), true},
		"drain":     {st.GetDrain(), "leaving"},
		"phase":     {st.GetPhase(), "syncing"},
		"in sync":   {st.GetInSync(), false},
		"peers":     {[2]uint32{st.GetPeersTotal(), st.GetPeersEstablished()}, [2]uint32{2, 1}},
		"routes":    {[4]uint32{st.GetRoutesUnicast(), st.GetRoutesTunnelled(), st.GetRoutesUnresolved(), st.GetRoutesFailed()}, [4]uint32{5, 2, 1, 1}},
		"addresses": {[3]uint32{st.GetBlocks(), st.GetAddressesUsed(), st.GetAddressesTotal()}, [3]uint32{2, 4, 128}},
		"drift":     {st.GetFibDrift(), uint64(4)},
		"features":  {[2]string{st.GetFeatures()[0].GetDetail(), st.GetFeatures()[1].GetDetail()}, [2]string{"", "no masquerading"}},
		"notes":     {st.GetNotes()[0], "insecure"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
		}
	}
	if !slices.Contains(st.GetProblems(), "look here") || !slices.Contains(st.GetProblems(), "route 10.244.9.0/26: refused") {
		t.Errorf("problems %q", st.GetProblems())
	}
	b.snapshot.Routes.InSync = true
	if st, _ = b.server(t).GetStatus(t.Context(), nil); st.GetPhase() != "ready" || !st.GetInSync() {
		t.Errorf("phase %s in sync", st.GetPhase())
	}
	b.err = context.DeadlineExceeded
	if _, err := b.server(t).GetStatus(t.Context(), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an agent that does not answer: %v", err)
	}
}

// TestListPeers: a session comes with its BFD session; a stranger has no role.
func TestListPeers(t *testing.T) {
	tor := ip("10.57.0.1")
	b := &bed{
		peers: []bgp.PeerStatus{
			{Name: "tor", Address: tor, State: state.Established, Received: 3, Advertised: -1, LastError: "hold timer expired", ErrorAt: time.Now(), Faults: bgp.Faults{Discarded: 2}},
			{Address: ip("10.57.0.66"), State: "Idle", Stranger: true, Gone: true},
		},
		sessions: map[netip.Addr]bfd.Status{tor: {State: bfd.Down, Downs: 1, Interval: time.Second}},
	}
	rep, err := b.server(t).ListPeers(t.Context(), nil)
	if err != nil || len(rep.GetPeers()) != 2 {
		t.Fatalf("%v, %v", rep, err)
	}
	p, stranger := rep.GetPeers()[0], rep.GetPeers()[1]
	if p.GetPrefixesIn() != 3 || p.GetPrefixesOut() != 0 || p.GetFaults().GetDiscarded() != 2 || p.GetLastErrorAge() == nil {
		t.Errorf("%v", p)
	}
	if p.GetBfd().GetState() != bfd.Down.String() || p.GetBfd().GetDowns() != 1 || p.GetBfd().GetDiagnostic() == "" || p.GetBfd().GetInterval().AsDuration() != time.Second {
		t.Errorf("bfd %v", p.GetBfd())
	}
	if stranger.GetRole() != "" || stranger.GetBfd() != nil || stranger.GetLastErrorAge() != nil {
		t.Errorf("%v", stranger)
	}
}

// TestListRoutes: a prefix or address selects the routes that cover it and
// those inside; a refused one says why.
func TestListRoutes(t *testing.T) {
	unicast := func(p string) rib.Route {
		return rib.Route{Prefix: pfx(p), Kind: rib.Unicast, Hops: rib.MakeHops(rib.Hop{Via: ip("10.57.0.12"), Dev: "eth0", Reason: rib.ReasonOnLink})}
	}
	b := &bed{
		routes: []rib.Route{unicast("10.244.1.0/26"), unicast("10.244.2.0/26"), {Prefix: pfx("192.0.2.0/24"), Reason: rib.ReasonNoPath}},
		failed: map[netip.Prefix]string{pfx("10.244.2.0/26"): "refused"},
	}
	for _, c := range []struct {
		prefix string
		want   []string
	}{
		{"", []string{"10.244.1.0/26", "10.244.2.0/26", "192.0.2.0/24"}},
		{"10.244.0.0/16", []string{"10.244.1.0/26", "10.244.2.0/26"}},
		{"10.244.2.7", []string{"10.244.2.0/26"}},
		{"10.9.0.0/16", nil},
	} {
		rep, err := b.server(t).ListRoutes(t.Context(), &onlinkv1.ListRoutesRequest{Prefix: c.prefix})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range rep.GetRoutes() {
			got = append(got, r.GetPrefix())
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q: %s", c.prefix, diff)
		}
	}
	rep, _ := b.server(t).ListRoutes(t.Context(), &onlinkv1.ListRoutesRequest{})
	for i, want := range []struct {
		installed bool
		why       string
	}{{true, ""}, {false, "refused"}, {false, ""}} {
		if r := rep.GetRoutes()[i]; r.GetInstalled() != want.installed || r.GetError() != want.why {
			t.Errorf("%v, want %+v", r, want)
		}
	}
	if h := rep.GetRoutes()[0].GetHops()[0]; h.GetVia() != "10.57.0.12" || h.GetDev() != "eth0" || h.GetReason() != "on-link" {
		t.Errorf("hop %v", h)
	}
	_, err := b.server(t).ListRoutes(t.Context(), &onlinkv1.ListRoutesRequest{Prefix: "10.244"})
	wantCode(t, err, codes.InvalidArgument)
}

// TestListPaths: the BGP paths of a route say which session it came by and which node
// announced it; they are read where the request names a prefix.
func TestListPaths(t *testing.T) {
	b := &bed{
		routes: []rib.Route{{Prefix: pfx("10.244.1.0/26"), Kind: rib.Unicast}, {Prefix: pfx("10.244.1.64/26"), Kind: rib.Blackhole}, {Prefix: pfx("10.244.1.128/26"), Kind: rib.Unresolved}},
		paths: map[netip.Prefix][]bgp.PathInfo{
			pfx("10.244.1.0/26"): {
				{NextHop: ip("fd00::12"), Peer: ip("10.57.0.1"), OriginatorID: ip("10.57.0.12")},
				{NextHop: ip("fd00::12"), Peer: ip("10.57.0.12"), Stale: true},
			},
			pfx("10.244.1.64/26"):  {{NextHop: ip("10.57.0.11")}},
			pfx("10.244.1.128/26"): {{NextHop: ip("10.57.0.13"), Peer: ip("10.57.0.13")}},
		},
	}
	rep, err := b.server(t).ListRoutes(t.Context(), &onlinkv1.ListRoutesRequest{Prefix: "10.244.1.0/24", Paths: true})
	if err != nil {
		t.Fatal(err)
	}
	want := [][]*onlinkv1.Path{
		{{NextHop: "fd00::12", Peer: "10.57.0.1", OriginatorId: "10.57.0.12"}, {NextHop: "fd00::12", Peer: "10.57.0.12", Stale: true}},
		nil,
		{{NextHop: "10.57.0.13", Peer: "10.57.0.13"}},
	}
	for i, r := range rep.GetRoutes() {
		if d := cmp.Diff(want[i], r.GetPaths(), protocmp.Transform()); d != "" {
			t.Errorf("%s -want +got:\n%s", r.GetPrefix(), d)
		}
	}
	if rep, err = b.server(t).ListRoutes(t.Context(), &onlinkv1.ListRoutesRequest{Prefix: "10.244.1.0/24"}); err != nil || len(rep.GetRoutes()[0].GetPaths()) > 0 {
		t.Errorf("not requested: %v, %v", rep, err)
	}
	_, err = b.server(t).ListRoutes(t.Context(), &onlinkv1.ListRoutesRequest{Paths: true})
	wantCode(t, err, codes.InvalidArgument)
}

// TestListBlocks: own blocks are known without the registry; those of others
// are marked, and a registry that is away is said to be.
func TestListBlocks(t *testing.T) {
	mine := ipam.Block{CIDR: pfx("10.244.1.0/26"), Pool: "main", Node: "n1", Epoch: 2}
	theirs := ipam.Block{CIDR: pfx("10.244.2.0/26"), Pool: "main", Node: "n2"}
	b := &bed{blocks: []ipam.BlockUsage{{Block: mine, Used: 3, Size: 64, Cooling: 1, Confirmed: true}}, registered: []ipam.Block{mine, theirs}}
	rep, err := b.server(t).ListBlocks(t.Context(), &onlinkv1.ListBlocksRequest{})
	if err != nil || len(rep.GetBlocks()) != 1 {
		t.Fatalf("%v, %v", rep, err)
	}
	if w := rep.GetBlocks()[0]; w.GetUsed() != 3 || w.GetSize() != 64 || w.GetCooling() != 1 || !w.GetAnnounced() || w.GetEpoch() != 2 {
		t.Errorf("%v", w)
	}
	rep, err = b.server(t).ListBlocks(t.Context(), &onlinkv1.ListBlocksRequest{All: true})
	if err != nil || len(rep.GetBlocks()) != 2 {
		t.Fatalf("%v, %v", rep, err)
	}
	if w := rep.GetBlocks(); w[0].GetElsewhere() || w[0].GetUsed() != 3 || !w[1].GetElsewhere() || w[1].GetNode() != "n2" {
		t.Errorf("%v", w)
	}
	b.err = errors.New("no answer within 700ms")
	rep, err = b.server(t).ListBlocks(t.Context(), &onlinkv1.ListBlocksRequest{All: true})
	if err != nil || len(rep.GetBlocks()) != 1 || rep.GetMissing() == "" {
		t.Errorf("%v, %v", rep, err)
	}
}

// TestListPools: a pool counts this node's share of it.
func TestListPools(t *testing.T) {
	b := &bed{
		pools: []config.Pool{{Name: "main", CIDR: pfx("10.244.0.0/16"), BlockSize: 26, NATOutgoing: true}, {Name: "six", CIDR: pfx("fd44::/48"), BlockSize: 122}},
		blocks: []ipam.BlockUsage{
			{Block: ipam.Block{CIDR: pfx("10.244.1.0/26"), Pool: "main"}, Used: 3}, {Block: ipam.Block{CIDR: pfx("10.244.2.0/26"), Pool: "main"}, Used: 2},
		},
	}
	rep, err := b.server(t).ListPools(t.Context(), nil)
	if err != nil || len(rep.GetPools()) != 2 {
		t.Fatalf("%v, %v", rep, err)
	}
	main, six := rep.GetPools()[0], rep.GetPools()[1]
	if main.GetBlocks() != 2 || main.GetUsed() != 5 || main.GetBlockSize() != 26 || !main.GetNatOutgoing() || six.GetBlocks() != 0 {
		t.Errorf("%v, %v", main, six)
	}
}

// TestExplain: the chain goes over the wire; what is no address is refused.
func TestExplain(t *testing.T) {
	s := (&bed{}).server(t)
	rep, err := s.Explain(t.Context(), &onlinkv1.ExplainRequest{Address: "192.0.2.1"})
	if err != nil || rep.GetReachable() || rep.GetAddress() != "192.0.2.1" || rep.GetVerdict() == "" {
		t.Fatalf("%v, %v", rep, err)
	}
	if last := rep.GetSteps()[len(rep.GetSteps())-1]; last.GetOk() || last.GetName() != "kernel-route" {
		t.Errorf("last step %v", last)
	}
	if rep.GetCause() != "route.none" || rep.GetFix() == "" || rep.GetSteps()[len(rep.GetSteps())-1].GetState() != "broken" {
		t.Errorf("cause %q, fix %q, steps %v", rep.GetCause(), rep.GetFix(), rep.GetSteps())
	}
	for _, bad := range []*onlinkv1.ExplainRequest{{Address: "web"}, {Address: "192.0.2.1", From: "web"}, {Address: "192.0.2.1", From: "fd44::1"}} {
		_, err = s.Explain(t.Context(), bad)
		wantCode(t, err, codes.InvalidArgument)
	}
}

// TestNumber: counts fit the wire whatever they are.
func TestNumber(t *testing.T) {
	for in, want := range map[int]uint32{-1: 0, 0: 0, 7: 7, math.MaxInt: math.MaxUint32} {
		if got := number(in); got != want {
			t.Errorf("number(%d) = %d, want %d", in, got, want)
		}
	}
	if got := count(-1); got != 0 {
		t.Errorf("count(-1) = %d", got)
	}
}
