package fib

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
	"onlink/rib"
)

// madeHop returns a nexthop as targets makes it, on devices 1, 2, ...
func madeHop(r rib.Route) *nexthop {
	var g targets
	g.init()
	s := g.acquire(setKey{hops: r.Hops, kind: r.Kind, v6: r.Prefix.Addr().Is6()})
	for i, one := range s.nh.singles() {
		if one.dev != nil {
			one.dev.index = uint32(i + 1)
		}
	}
	return s.nh
}

func TestRouteCodec(t *testing.T) {
	hop := func(via string, oif uint32, onlink bool) wireHop {
		h := wireHop{oif: oif, onlink: onlink}
		if via != "" {
			h.via = netip.MustParseAddr(via)
		}
		return h
	}
	tests := []struct {
		name  string
		route rib.Route
		id    uint32
		kind  uint8
		hops  []wireHop
	}{
		{name: "blackhole", route: blackhole("10.1.0.0/26"), kind: unix.RTN_BLACKHOLE},
		{name: "gateway", route: unicast("10.1.0.0/26", "10.0.0.1 va"), kind: unix.RTN_UNICAST, hops: []wireHop{hop("10.0.0.1", 1, true)}},
		{name: "IPv6 gateway of IPv4", route: unicast("10.1.0.0/26", "fd00::1 va"), kind: unix.RTN_UNICAST, hops: []wireHop{hop("fd00::1", 1, true)}},
		{name: "IPv6", route: unicast("2001:db8::/64", "fd00::1 va"), kind: unix.RTN_UNICAST, hops: []wireHop{hop("fd00::1", 1, true)}},
		{name: "device", route: local("10.1.0.5/32", "va"), kind: unix.RTN_UNICAST, hops: []wireHop{hop("", 1, false)}},
		{
			name: "multipath", route: unicast("10.1.0.0/26", "10.0.0.1 va", "fd00::2 vb"), kind: unix.RTN_UNICAST,
			hops: []wireHop{hop("10.0.0.1", 1, true), hop("fd00::2", 2, true)},
		},
		{name: "object", route: unicast("10.1.0.0/26", "10.0.0.1 va"), id: ours.FirstNexthopID, kind: unix.RTN_UNICAST},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := encoder{table: 1000, src4: netip.MustParseAddr("10.0.0.9")}
			key := routeKey{prefix: tt.route.Prefix, metric: 20}
			e.request(&request{verb: addRoute, key: key, nh: madeHop(tt.route), id: tt.id}, 7)
			sent := rtnl.Messages(e.B)
			m, ok := sent.Next()
			if !ok || len(sent) != 0 || m.Type != unix.RTM_NEWROUTE || m.Seq != 7 {
				t.Fatalf("message %+v, %d bytes left", m, len(sent))
			}
			var r wireRoute
			if !decodeRoute(m.Body, &r) {
				t.Fatal("not a route")
			}
			if r.key != key || r.table != 1000 || r.protocol != ours.Protocol || r.kind != tt.kind || r.nhid != tt.id || r.odd {
				t.Errorf("decoded %+v", r)
			}
			opt := cmp.AllowUnexported(wireHop{})
			cmpAddr := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
			if diff := cmp.Diff(tt.hops, append([]wireHop(nil), r.hops()...), opt, cmpAddr); diff != "" {
				t.Errorf("hops (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzDecode feeds arbitrary bytes to every reader of kernel messages: it must
// neither panic nor run past the end.
func FuzzDecode(f *testing.F) {
	e := encoder{table: 254}
	e.request(&request{verb: addRoute, key: routeKey{prefix: pfx("10.1.0.0/26")}, nh: madeHop(unicast("10.1.0.0/26", "10.0.0.1 va", "fd00::2 vb"))}, 1)
	e.request(&request{verb: addNexthop, nh: madeHop(unicast("10.1.0.0/26", "10.0.0.1 va")), id: ours.FirstNexthopID}, 2)
	e.request(&request{verb: addNexthop, nh: madeHop(unicast("10.1.0.0/26", "10.0.0.1 va", "fd00::2 vb")), id: ours.FirstNexthopID}, 3)
	f.Add(e.B)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		for m := range rtnl.Messages(b).All() {
			var r wireRoute
			if decodeRoute(m.Body, &r) && (!r.key.prefix.IsValid() || len(r.hops()) > rib.MaxHops) {
				t.Errorf("route %+v", r)
			}
			var n wireNexthop
			if decodeNexthop(m.Body, &n) && n.id == 0 {
				t.Errorf("object %+v", n)
			}
		}
	})
}
