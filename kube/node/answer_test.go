package node

import (
	"net/netip"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	onlinkv1 "onlink/proto/v1"
)

// TestMoved: a Node with another machine's address does not stop this one's agent.
func TestMoved(t *testing.T) {
	file := func(address string) []byte { return []byte("node: {name: n1, address: " + address + "}") }
	here := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
	for _, tt := range []struct {
		name      string
		old, next string
		want      bool
	}{
		{"the same", "10.0.0.1", "10.0.0.1", false},
		{"another that it has", "10.0.0.1", "fd00::1", false},
		{"another machine's", "10.0.0.1", "10.0.0.2", true},
		{"the machine has moved", "10.0.0.3", "10.0.0.1", false},
		{"neither is here", "10.0.0.3", "10.0.0.2", false},
		{"a device before", "eth0", "10.0.0.2", false},
	} {
		if got := moved(file(tt.old), file(tt.next), here); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

// TestHear: what is left from a peer without a session says no block announced.
func TestHear(t *testing.T) {
	peer := func(addr, state string, since time.Duration) *onlinkv1.Peer {
		return &onlinkv1.Peer{Address: addr, State: state, Since: durationpb.New(since)}
	}
	route := func(prefix, kind string, via ...string) *onlinkv1.Route {
		r := &onlinkv1.Route{Prefix: prefix, Kind: kind}
		for _, v := range via {
			r.Hops = append(r.Hops, &onlinkv1.Hop{Via: v})
		}
		return r
	}
	from := func(r *onlinkv1.Route, paths ...*onlinkv1.Path) *onlinkv1.Route {
		r.Paths = paths
		return r
	}
	six := func(paths ...*onlinkv1.Path) *onlinkv1.Route {
		return from(route("10.244.0.0/26", "unicast", "fd00::2"), paths...)
	}
	const one, dead, hop = "10.0.0.1", "10.0.0.2", "fd00::2"
	peers := []*onlinkv1.Peer{
		peer("10.0.0.1", established, time.Hour),
		peer("10.0.0.2", "Active", 2*time.Minute),
		peer("10.0.0.3", "Active", 10*time.Second),
		// A second entry of an address, such as that of its former connection.
		peer("10.0.0.4", "Idle", time.Hour), peer("10.0.0.4", established, time.Second),
	}
	for _, tt := range []struct {
		name  string
		route *onlinkv1.Route
		want  bool
	}{
		{"the block of a peer", route("10.244.0.0/26", "unicast", "10.0.0.1"), true},
		{"a part of the block", route("10.244.0.32/27", "unicast", "10.0.0.1"), true},
		{"a route around it", route("10.244.0.0/16", "unicast", "10.0.0.1"), false},
		{"an own route", route("10.244.0.0/26", "blackhole"), false},
		{"a next hop that is no peer", route("10.244.0.0/26", "unicast", "10.0.0.9"), true},
		{"no next hop", route("10.244.0.0/26", "unresolved"), true},
		{"left from a peer that is silent", route("10.244.0.0/26", "unicast", "10.0.0.2"), false},
		{"left from a peer that restarts", route("10.244.0.0/26", "unicast", "10.0.0.3"), true},
		{"a peer that came back", route("10.244.0.0/26", "unicast", "10.0.0.4"), true},
		{"one of two next hops is silent", route("10.244.0.0/26", "unicast", "10.0.0.2", "10.0.0.1"), true},
		{"left from a silent peer, with a next hop of the other family", six(&onlinkv1.Path{NextHop: hop, Peer: dead, Stale: true}), false},
		{"left, and reflected by a peer", six(&onlinkv1.Path{NextHop: hop, Peer: one, OriginatorId: dead}), false},
		{"both", six(&onlinkv1.Path{NextHop: hop, Peer: one, OriginatorId: dead}, &onlinkv1.Path{NextHop: hop, Peer: dead, Stale: true}), false},
		{"another announces it too", six(&onlinkv1.Path{NextHop: hop, Peer: dead, Stale: true}, &onlinkv1.Path{NextHop: "fd00::9", Peer: one, OriginatorId: "10.0.0.9"}), true},
		{"of a peer with a next hop of the other family", six(&onlinkv1.Path{NextHop: hop, Peer: one}), true},
		{"the best path leads to a silent peer, another does not", from(route("10.244.0.0/26", "unicast", dead), &onlinkv1.Path{NextHop: dead, Peer: dead}, &onlinkv1.Path{NextHop: one, Peer: one}), true},
		{"unresolved, and left from a silent peer", from(route("10.244.0.0/26", "unresolved"), &onlinkv1.Path{NextHop: hop, Peer: dead}), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := netip.MustParsePrefix("10.244.0.0/26")
			_, silent := hear(peers, time.Minute)
			if got := received([]*onlinkv1.Route{tt.route}, p, silent); got != tt.want {
				t.Errorf("received: %t, want %t", got, tt.want)
			}
		})
	}
}
