package metrics

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"onlink/agent/announce"
	"onlink/agent/drain"
	"onlink/agent/hold"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/bgp/bfd"
	"onlink/bgp/bmp"
	"onlink/cni"
	"onlink/fib"
	"onlink/internal/histogram"
	"onlink/ipam"
	"onlink/rib"
)

// fixed is a source with one snapshot.
type fixed struct {
	s    *state.Snapshot
	err  error
	turn state.Turn
}

func (f fixed) Since(context.Context, time.Time) (*state.Snapshot, error) { return f.s, f.err }
func (f fixed) Turn() state.Turn                                          { return f.turn }

// dropped are the kernel's counts.
func dropped() state.Drops {
	return state.Drops{
		Rules:   map[string]uint64{"guard": 3, "mac": 0},
		Tunnels: []state.Loss{{Device: "onlink-ipip", Direction: "sent", Dropped: 4, Errors: 5}},
	}
}

// get asks a handler for a path.
func get(t *testing.T, src Source, path string) (code int, body string) {
	t.Helper()
	rec := httptest.NewRecorder()
	Handler(src, dropped).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, http.NoBody))
	return rec.Code, rec.Body.String()
}

// TestReady: a node is ready when its learn loop turns and the routes are in
// sync, and says what it waits for otherwise.
func TestReady(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name string
		turn state.Turn
		code int
		want string
	}{
		{"before the first turn", state.Turn{}, 503, "starting: "},
		{"not in sync", state.Turn{At: now}, 503, "syncing: waiting for the peers' End-of-RIB"},
		{"in sync", state.Turn{At: now, InSync: true}, 200, "ready"},
		{"the loop hangs", state.Turn{At: now.Add(-time.Minute), InSync: true}, 503, "learn loop does not answer: its last turn was 1m"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// A snapshot that is not to be had keeps nobody from the answer.
			code, body := get(t, fixed{err: errors.New("stuck"), turn: c.turn}, "/readyz")
			if code != c.code || !strings.HasPrefix(body, c.want) {
				t.Errorf("%d %q, want %d %q", code, body, c.code, c.want)
			}
		})
	}
	if code, body := get(t, fixed{err: errors.New("stuck")}, "/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
}

// lasting is a histogram of n durations d.
func lasting(d time.Duration, n uint64) (h histogram.Histogram) {
	h.Observe(d, n)
	return h
}

// full is a snapshot in which every room has something to show.
func full() *state.Snapshot {
	tor, lost, dead := netip.MustParseAddr("10.57.0.1"), netip.MustParseAddr("10.57.0.9"), netip.MustParseAddr("10.57.0.12")
	block := ipam.Block{CIDR: netip.MustParsePrefix("10.244.1.0/26"), Node: "n1", Pool: "main"}
	pool := ipam.Pool{Name: "main", CIDR: netip.MustParsePrefix("10.244.1.0/24")}
	return &state.Snapshot{
		Node: state.Node{Version: "1.2.3", Engine: "gobgp v3 patched"},
		Held: []hold.Change{{What: "announce services", Since: time.Unix(1_800_000_000, 0)}, {What: "config", Since: time.Unix(1_700_000_000, 0)}}, HeldEver: 5,
		Reloads: state.Reloads{At: time.Unix(1_700_000_000, 0), Applied: 2, Rejected: 1},
		Drain:   drain.Leaving,
		Announcements: state.Announcements{{
			Owner: "services", Announcements: make([]announce.Announcement, 3), Rejected: make([]announce.Rejection, 1), Withheld: make([]announce.Announcement, 2),
		}},
		Features: []state.Feature{{Name: "ipip", Available: true}, {Name: "nftables"}},
		Routes: state.Routes{
			Converged: lasting(2*time.Millisecond, 3),
			InSync:    true, Nodes: 3, PodMTU: 1480, Failed: map[netip.Prefix]string{block.CIDR: "x"},
			Counts: rib.Counts{
				Tunnelled: 2, ByKind: map[rib.Kind]int{rib.Unicast: 7, rib.Unresolved: 1},
				ByReason: map[rib.Reason]int{rib.ReasonMartian: 1}, ByReach: map[rib.ReachKind]int{rib.OnLink: 4}, ByWay: map[string]int{"direct": 5},
			},
			FIB: fib.Stats{Added: 9, Drift: 2, Desired: 8, LastResync: 250 * time.Millisecond},
		},
		Sessions: state.Sessions{
			Faults: bgp.Faults{Withdrawn: 6}, Refused: map[string]uint64{"owner": 5},
			Peers: []state.Peer{
				{
					PeerStatus: bgp.PeerStatus{Name: "tor", Address: tor, State: state.Established, Since: time.Unix(1_600_000_000, 0), Received: 4, Accepted: 3, Advertised: 2, Flaps: 1, Faults: bgp.Faults{Reset: 8}},
					BFD:        &bfd.Status{State: bfd.Up, Downs: 2},
				},
				{PeerStatus: bgp.PeerStatus{Name: "lost", Address: lost, State: "Idle", Gone: true}},
				{PeerStatus: bgp.PeerStatus{Name: "dead", Address: dead, State: "Idle", Gone: true, Seen: true, Flaps: 1}},
			},
		},
		Stations: []bmp.Status{{
			Settings: bmp.Settings{Name: "collector"}, Connected: true, Since: time.Unix(1_600_000_001, 0),
			Connections: 3, Overflows: 1, Messages: 40, Bytes: 5000, Waiting: 6,
		}},
		IPAM: state.IPAM{
			Stats: ipam.Stats{Assigned: 11, LostBlocks: 1, RegistryErrors: 3, RegistryLastError: "away", RegistryCalls: map[string]histogram.Histogram{"Assert": lasting(2*time.Second, 1)}}, Swept: 2,
			Blocks:     []ipam.BlockUsage{{Block: block, Used: 5, Size: 64, Confirmed: true}},
			Pools:      []ipam.PoolUsage{{Pool: pool, Used: 5, Size: 64, NoFreeBlock: true}},
			Registered: []ipam.Block{block},
		},
		Certificates: []state.Certificate{
			{Section: "api.admin.tls", Subject: "CN=n1", NotBefore: time.Unix(1600000000, 0), NotAfter: time.Unix(2000000000, 0)},
			{Section: "api.admin.tls", Subject: "CN=ca", Authority: true, NotBefore: time.Unix(1500000000, 0), NotAfter: time.Unix(1900000000, 0)},
			{Section: "api.admin.tls", Subject: "CN=ca", Authority: true, NotBefore: time.Unix(1400000000, 0), NotAfter: time.Unix(1800000000, 0)}, // the former one, still in the file
		},
		CNI: cni.Stats{Verbs: map[string]cni.VerbStats{"ADD": {Served: 12, Failed: 1, Took: lasting(2*time.Second, 1)}}, Ending: 1},
	}
}

// TestMetrics: every room's numbers come out of the snapshot under their names.
func TestMetrics(t *testing.T) {
	s := full()
	code, body := get(t, fixed{s: s}, "/metrics")
	if code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	lines := map[string]bool{}
	for line := range strings.Lines(body) {
		lines[strings.TrimSuffix(line, "\n")] = true
	}
	for _, want := range []string{
		"onlink_in_sync 1", "onlink_drained 1",
		"onlink_held_changes 2", "onlink_held_change_since_timestamp_seconds 1.7e+09", "onlink_changes_held_total 5",
		`onlink_tls_certificate_expiry_timestamp_seconds{kind="certificate",section="api.admin.tls",subject="CN=n1"} 2e+09`,
		`onlink_tls_certificate_expiry_timestamp_seconds{kind="authority",section="api.admin.tls",subject="CN=ca"} 1.8e+09`,
		`onlink_tls_certificate_start_timestamp_seconds{kind="certificate",section="api.admin.tls",subject="CN=n1"} 1.6e+09`,
		`onlink_tls_certificate_start_timestamp_seconds{kind="authority",section="api.admin.tls",subject="CN=ca"} 1.4e+09`,
		`onlink_announcements{owner="services"} 3`, `onlink_announcements_rejected{owner="services"} 1`, `onlink_announcements_withheld{owner="services"} 2`,
		`onlink_feature_available{feature="ipip"} 1`, `onlink_feature_available{feature="nftables"} 0`,
		"onlink_bgp_peers 1", "onlink_bgp_peers_established 1", "onlink_bgp_peers_gone 1",
		`onlink_bgp_peer_up{address="10.57.0.12",peer="dead"} 0`, `onlink_bgp_peer_prefixes_received{address="10.57.0.12",peer="dead"} 0`,
		`onlink_bgp_peer_up{address="10.57.0.1",peer="tor"} 1`,
		`onlink_bgp_peer_prefixes_received{address="10.57.0.1",peer="tor"} 4`,
		`onlink_bgp_peer_prefixes_accepted{address="10.57.0.1",peer="tor"} 3`,
		`onlink_bgp_peer_prefixes_advertised{address="10.57.0.1",peer="tor"} 2`,
		`onlink_bgp_peer_flaps_total{address="10.57.0.1",peer="tor"} 1`,
		`onlink_bgp_peer_faults_total{address="10.57.0.1",kind="reset",peer="tor"} 8`,
		`onlink_bgp_faults_total{kind="withdrawn"} 6`, `onlink_bgp_import_refused_total{reason="owner"} 5`,
		`onlink_bfd_up{address="10.57.0.1",peer="tor"} 1`, `onlink_bfd_downs_total{address="10.57.0.1",peer="tor"} 2`,
		`onlink_bmp_station_up{station="collector"} 1`, `onlink_bmp_station_last_change_timestamp_seconds{station="collector"} 1.600000001e+09`,
		`onlink_bmp_connections_total{station="collector"} 3`, `onlink_bmp_overflows_total{station="collector"} 1`,
		`onlink_bmp_sent_messages_total{station="collector"} 40`, `onlink_bmp_sent_bytes_total{station="collector"} 5000`,
		`onlink_bmp_changes_waiting{station="collector"} 6`,
		"onlink_rib_routes_unicast 7", "onlink_rib_routes_tunnelled 2", "onlink_rib_routes_unresolved 1", "onlink_fib_routes_failed 1",
		`onlink_rib_routes{reason="martian"} 1`, `onlink_rib_next_hops{reach="` + rib.OnLink.String() + `"} 4`, `onlink_rib_hops{way="direct"} 5`,
		"onlink_rib_nodes 3", "onlink_fib_routes_desired 8", "onlink_fib_drift_total 2", `onlink_fib_writes_total{op="add"} 9`,
		"onlink_fib_last_resync_seconds 0.25", "onlink_pod_mtu_bytes 1480",
		"onlink_ipam_blocks 1", "onlink_ipam_addresses_used 5", "onlink_ipam_addresses 64", "onlink_ipam_blocks_lost 1",
		"onlink_ipam_blocks_contested 0", "onlink_ipam_registry_up 0", "onlink_ipam_registry_errors_total 3",
		"onlink_ipam_assigned_total 11", "onlink_ipam_swept_total 2",
		`onlink_ipam_pool_addresses_used{pool="main"} 5`, `onlink_ipam_pool_without_free_block{pool="main"} 1`, `onlink_ipam_pool_claimed_ratio{pool="main"} 0.25`,
		`onlink_cni_requests_total{result="served",verb="ADD"} 12`, `onlink_cni_requests_total{result="failed",verb="ADD"} 1`,
		`onlink_cni_request_duration_seconds_count{verb="ADD"} 1`, `onlink_cni_request_duration_seconds_sum{verb="ADD"} 2`,
		`onlink_cni_request_duration_seconds_bucket{verb="ADD",le="1"} 0`, `onlink_cni_request_duration_seconds_bucket{verb="ADD",le="2.5"} 1`,
		`onlink_ipam_registry_call_duration_seconds_sum{call="Assert"} 2`,
		`onlink_convergence_seconds_count 3`, `onlink_convergence_seconds_bucket{le="0.0025"} 3`,
		`onlink_build_info{engine="gobgp v3 patched",goversion="` + runtime.Version() + `",version="1.2.3"} 1`,
		`onlink_problems{area="drain"} 1`, `onlink_problems{area="routes"} 1`, `onlink_problems{area="held"} 2`, `onlink_problems{area="contested"} 0`,
		`onlink_config_last_reload_successful 0`, `onlink_config_last_reload_success_timestamp_seconds 1.7e+09`,
		`onlink_config_reloads_total{result="applied"} 2`, `onlink_config_reloads_total{result="rejected"} 1`,
		`onlink_dropped_packets_total{cause="guard"} 3`, `onlink_dropped_packets_total{cause="mac"} 0`,
		`onlink_tunnel_dropped_packets_total{device="onlink-ipip",direction="sent"} 4`, `onlink_tunnel_error_packets_total{device="onlink-ipip",direction="sent"} 5`,
		`onlink_bgp_peer_state{address="10.57.0.1",peer="tor"} 6`, `onlink_bgp_peer_state{address="10.57.0.12",peer="dead"} 1`,
		`onlink_bgp_peer_last_change_timestamp_seconds{address="10.57.0.1",peer="tor"} 1.6e+09`, `onlink_bgp_peer_prefixes_rejected{address="10.57.0.1",peer="tor"} 1`, "onlink_cni_pods_ending 1",
	} {
		if !lines[want] {
			t.Errorf("lacks %s", want)
		}
	}
	if strings.Contains(body, `peer="lost"`) {
		t.Error("a series of a peer that is not waited for")
	}
}

// TestMetricsBound: the number of series does not grow with the clients.
func TestMetricsBound(t *testing.T) {
	s := &state.Snapshot{}
	for i := range 3 * maxPeerSeries {
		s.Sessions.Peers = append(s.Sessions.Peers, state.Peer{PeerStatus: bgp.PeerStatus{Address: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}})
	}
	_, body := get(t, fixed{s: s}, "/metrics")
	if n := strings.Count(body, "onlink_bgp_peer_up{"); n != maxPeerSeries {
		t.Errorf("%d series, want %d", n, maxPeerSeries)
	}
	if !strings.Contains(body, "\nonlink_bgp_peers 300\n") {
		t.Error("the total is not exact")
	}
}

// TestMetricsWithoutSnapshot: a scrape of an agent that does not answer fails,
// and does not show zeros.
func TestMetricsWithoutSnapshot(t *testing.T) {
	if code, body := get(t, fixed{err: errors.New("stuck")}, "/metrics"); code != 500 || !strings.Contains(body, "stuck") {
		t.Errorf("%d %s", code, body)
	}
}
