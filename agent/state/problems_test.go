package state

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"onlink/agent/drain"
	"onlink/bgp"
	"onlink/bgp/bmp"
	"onlink/ipam"
)

var (
	blockA = netip.MustParsePrefix("10.244.1.0/26")
	blockB = netip.MustParsePrefix("10.244.2.0/26")
	hopA   = netip.MustParseAddr("10.57.0.11")
	hopB   = netip.MustParseAddr("10.57.0.12")
	tor    = netip.MustParseAddr("10.57.0.1")
)

// TestProblems: each fact of a snapshot is the line that tells the operator
// what to do, and a snapshot without faults has none.
func TestProblems(t *testing.T) {
	own := []ipam.BlockUsage{{Block: ipam.Block{CIDR: blockA}, Confirmed: true, Size: 64, Used: 1}}
	for _, c := range []struct {
		name string
		s    Snapshot
		want []string // beginnings, in order
	}{
		{"all well", Snapshot{IPAM: IPAM{Blocks: own}}, nil},
		{"a part reports one", Snapshot{Found: []string{"b", "a"}}, []string{"a", "b"}},
		{"drained", Snapshot{Drain: drain.Drained}, []string{"the node is drained: "}},
		{
			"drained by somebody",
			Snapshot{Drain: drain.Drained, DrainOf: drain.Cause{By: "root (uid 0)", Since: time.Unix(0, 0)}},
			[]string{"the node is drained since 1970-01-01T00:00:00Z by root (uid 0): "},
		},
		{"leaving", Snapshot{Drain: drain.Leaving}, []string{"the node is leaving: "}},
		{
			"a withheld route", Snapshot{Sessions: Sessions{Peers: []Peer{{PeerStatus: bgp.PeerStatus{
				Name: "tor", Address: tor, State: Established, Withheld: bgp.Withheld{Routes: 2, Prefix: blockA, Why: "too long"},
			}}}}}, []string{"peer tor (10.57.0.1): 2 routes are withheld because no message to it can hold them, such as 10.244.1.0/26: too long"},
		},
		{"a route that the kernel refuses", Snapshot{Routes: Routes{Failed: map[netip.Prefix]string{blockB: "no such device"}}}, []string{"route 10.244.2.0/26: no such device"}},
		{
			"a station without a connection", Snapshot{Taken: time.Unix(1000, 0), Stations: []bmp.Status{
				{Settings: bmp.Settings{Name: "lost", Address: tor, Port: 5000}, Since: time.Unix(400, 0), LastError: "connect: connection refused"},
				{Settings: bmp.Settings{Name: "restarts"}, Since: time.Unix(999, 0)},
				{Settings: bmp.Settings{Name: "up"}, Since: time.Unix(1, 0), Connected: true, LastError: "x"},
			}}, []string{"bmp station lost (10.57.0.1:5000) has had no connection for 10m0s: connect: connection refused; "},
		},
		{"the learn flow's come last", Snapshot{Found: []string{"z"}, Routes: Routes{Problems: []string{"nodes: x", "nftables: y"}}}, []string{
			"z", "nodes: x", "nftables: y",
		}},
		{"no address without identity", Snapshot{IPAM: IPAM{Standing: errors.New("the name is held"), Stats: ipam.Stats{Assignments: 3}}}, []string{
			"identity: the name is held; the addresses of 3 pods are kept until they end",
		}},
		{"blocks say nothing beside that", Snapshot{IPAM: IPAM{
			Standing: errors.New("x"), Blocks: []ipam.BlockUsage{{Block: ipam.Block{CIDR: blockA}, Used: 1}},
		}}, []string{"identity: x"}},
		{"a lost block", Snapshot{IPAM: IPAM{Blocks: []ipam.BlockUsage{{Block: ipam.Block{CIDR: blockA}, Used: 2}}}}, []string{
			"block 10.244.1.0/26: belongs to another node now, 2 pods here",
		}},
		{"an empty lost block", Snapshot{IPAM: IPAM{Blocks: []ipam.BlockUsage{{Block: ipam.Block{CIDR: blockA}}}}}, nil},
		{"a doubtful block", Snapshot{IPAM: IPAM{Blocks: []ipam.BlockUsage{{Block: ipam.Block{CIDR: blockA}, Doubtful: true}}}}, []string{
			"block 10.244.1.0/26: the database has it, and the last run did not announce it",
		}},
		{"an entered block", Snapshot{IPAM: IPAM{Blocks: []ipam.BlockUsage{{Block: ipam.Block{CIDR: blockA}, Doubtful: true, Confirmed: true, Used: 4}}}}, []string{
			"block 10.244.1.0/26: recorded for the 4 pods in it",
		}},
		{"a block without a pool", Snapshot{IPAM: IPAM{Blocks: []ipam.BlockUsage{{Block: ipam.Block{CIDR: blockA, Pool: "old"}, Poolless: true, Confirmed: true, Used: 4}}}}, []string{
			"block 10.244.1.0/26: its pool old is no longer in the file, and 4 addresses",
		}},
		{"a pod outside the pools", Snapshot{IPAM: IPAM{Homeless: []ipam.Assignment{{Namespace: "default", Pod: "web", Addresses: []netip.Addr{hopA}}}}}, []string{
			"pod default/web: its address [10.57.0.11] is in no pool",
		}},
		{"the registry is away", Snapshot{IPAM: IPAM{Stats: ipam.Stats{RegistryLastError: "refused"}, HalfFailed: errors.New("half")}}, []string{
			"registry: refused; pods start from held blocks only",
		}},
		{"half of the registry is away", Snapshot{IPAM: IPAM{HalfFailed: errors.New("half")}}, []string{"registry: half; blocks come from the other half"}},
		{"writes that failed", Snapshot{IPAM: IPAM{Stats: ipam.Stats{CommitErrors: 2}, Database: "/x/onlink.db"}}, []string{
			"database: 2 writes failed since the start: check the disk of /x/onlink.db",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.s.Problems()
			if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestGonePeers: peers that are not configured cannot fill the list.
func TestGonePeers(t *testing.T) {
	s := Snapshot{}
	for i := range gonePeersShown + 3 {
		s.Sessions.Peers = append(s.Sessions.Peers, Peer{PeerStatus: bgp.PeerStatus{
			Name: strconv.Itoa(i), Address: tor, State: "Idle", Gone: true, LastError: "bad peer AS",
		}})
	}
	got := s.Problems()
	if len(got) != gonePeersShown+1 || !slices.Contains(got, "3 more rejected or lost peers that are not configured, see onlinkctl peers") {
		t.Errorf("got %q", got)
	}
	if total, up := s.Sessions.Count(); total != 0 || up != 0 {
		t.Errorf("%d peers, %d up: they are not waited for", total, up)
	}
}

// TestGoneForLong: a peer that was up and is gone is a problem for a while; then it is in
// the list of peers alone.
func TestGoneForLong(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	s := Snapshot{Taken: now, Sessions: Sessions{Found: []string{"bgp: drops"}, Peers: []Peer{
		{PeerStatus: bgp.PeerStatus{Name: "new", Address: tor, State: "Idle", Gone: true, Seen: true, Since: now.Add(-goneProblem), LastError: "hold timer expired"}},
		{PeerStatus: bgp.PeerStatus{Name: "old", Address: tor, State: "Idle", Gone: true, Seen: true, Since: now.Add(-goneProblem - 1), LastError: "hold timer expired"}},
	}}}
	if got, want := s.Problems(), []string{"bgp: drops", fmt.Sprintf("peer new (%s) is gone: hold timer expired", tor)}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := s.Sessions.Gone(); n != 2 {
		t.Errorf("%d are gone, want both", n)
	}
}

// TestPoolProblem: a pool that runs out is a problem where its addresses are
// taken from, and the cluster's share comes before the node's.
func TestPoolProblem(t *testing.T) {
	pool := ipam.Pool{Name: "main", CIDR: netip.MustParsePrefix("10.244.0.0/24")}
	with := func(change func(*ipam.PoolUsage)) ipam.PoolUsage {
		u := ipam.PoolUsage{Pool: pool, Used: 60, Size: 64}
		change(&u)
		return u
	}
	for _, c := range []struct {
		name    string
		usage   ipam.PoolUsage
		claimed float64
		want    string
	}{
		{"there are free blocks", with(func(*ipam.PoolUsage) {}), 0.5, ""},
		{"no free block, few addresses left", with(func(u *ipam.PoolUsage) { u.NoFreeBlock = true }), 0, "pool main runs out: no free block in 10.244.0.0/24, and 60 of the 64"},
		{"no free block, none left", with(func(u *ipam.PoolUsage) { u.NoFreeBlock, u.Used = true, 64 }), 0, "pool main is full: no free block"},
		{"no free block, many left", with(func(u *ipam.PoolUsage) { u.NoFreeBlock, u.Used = true, 6 }), 0, ""},
		{"nodes own most", with(func(*ipam.PoolUsage) {}), 0.9, "pool main runs out: nodes own 90 %"},
		{"nodes own all", with(func(u *ipam.PoolUsage) { u.NoFreeBlock = true }), 1, "pool main is full: nodes own 100 %"},
		{"disabled", with(func(u *ipam.PoolUsage) { u.Disabled = true }), 1, ""},
		{"for other nodes", with(func(u *ipam.PoolUsage) { u.Elsewhere = true }), 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := poolProblem(c.usage, c.claimed); !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestClaimed: the share of a pool that its blocks take; unknown is not zero.
func TestClaimed(t *testing.T) {
	s := IPAM{Pools: []ipam.PoolUsage{
		{Pool: ipam.Pool{Name: "main", CIDR: netip.MustParsePrefix("10.244.0.0/22")}},
		{Pool: ipam.Pool{Name: "six", CIDR: netip.MustParsePrefix("fd44::/120")}},
	}}
	if got := s.Claimed(); got != nil {
		t.Errorf("%v, though the registry has not answered", got)
	}
	s.Registered = []ipam.Block{{CIDR: netip.MustParsePrefix("10.244.0.0/24")}, {CIDR: netip.MustParsePrefix("10.244.1.0/24")}, {CIDR: netip.MustParsePrefix("192.0.2.0/24")}}
	if diff := cmp.Diff(map[string]float64{"main": 0.5, "six": 0}, s.Claimed()); diff != "" {
		t.Error(diff)
	}
}

// TestContested: each way in which two nodes can announce one block is one
// line, which names both.
func TestContested(t *testing.T) {
	own := []ipam.BlockUsage{{Block: ipam.Block{CIDR: blockA, Node: "n1"}, Confirmed: true}}
	for _, c := range []struct {
		name string
		s    Snapshot
		want []string
	}{
		{"nobody", Snapshot{IPAM: IPAM{Blocks: own}}, nil},
		{
			"another node announces ours",
			Snapshot{IPAM: IPAM{Blocks: own}, Sessions: Sessions{Rivals: []bgp.Rival{
				{Origin: blockA, Prefix: blockA, Peer: tor, NextHop: hopB, ASPath: "65001"}, {Origin: blockA, Prefix: blockA, Peer: tor, NextHop: hopB, ASPath: "65001"},
			}}},
			[]string{"block 10.244.1.0/26: is ours, and is announced by another node too: 10.244.1.0/26 with next hop 10.57.0.12 and AS path 65001, received from 10.57.0.1; see onlinkctl blocks there and its bgp.originate"},
		},
		{
			"what is announced is ours no more", Snapshot{Sessions: Sessions{Rivals: []bgp.Rival{{Origin: blockA, Prefix: blockA, Peer: hopB, NextHop: hopB}}}}, nil,
		},
		{
			"a node announces a third one's",
			Snapshot{Sessions: Sessions{Intrusions: []bgp.Intrusion{{Prefix: blockB, Block: blockB, Owner: "n3", Peer: hopB, NextHop: hopB}}}},
			[]string{"block 10.244.2.0/26: belongs to node n3, and is announced by another node: 10.244.2.0/26 with next hop 10.57.0.12: refused; see onlinkctl blocks there and its bgp.originate"},
		},
		{
			"the registry does not know",
			Snapshot{Sessions: Sessions{Contested: map[netip.Prefix][]netip.Addr{blockB: {hopA, hopB}}}},
			[]string{"block 10.244.2.0/26: is announced with next hops [10.57.0.11 10.57.0.12], and the registry lists no owner: the first announcer keeps it; see onlinkctl blocks on them"},
		},
		{
			"two next hops",
			Snapshot{
				IPAM:   IPAM{Registered: []ipam.Block{{CIDR: blockB, Node: "n2"}}},
				Routes: Routes{Shared: map[netip.Prefix][]netip.Addr{blockB: {hopA, hopB}, blockA: {hopA, hopB}}},
			},
			[]string{
				"block 10.244.1.0/26: is announced with next hops [10.57.0.11 10.57.0.12]: two nodes use it; see onlinkctl blocks on them",
				"block 10.244.2.0/26: belongs to node n2, and is announced with next hops [10.57.0.11 10.57.0.12]: two nodes use it; see onlinkctl blocks on them",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, c.s.Contested(), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
