package underlay

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReach resolves by every shape of kernel route in one namespace.
func TestReach(t *testing.T) {
	enterRack(t)
	ip(t, `link add eth1 type veth peer name far1
		link set far1 up
		link set eth1 addrgenmode none
		link set eth1 up
		addr add 10.99.0.11/24 dev eth1
		link add dead0 type veth peer name dead1
		link set dead0 addrgenmode none
		link set dead0 up
		addr add 10.66.0.11/24 dev dead0
		link add onlink-vxlan type bridge
		link set onlink-vxlan alias onlink up
		route add default via 10.57.0.1
		route add 10.58.0.0/24 nexthop via 10.57.0.1 nexthop via 10.99.0.1
		route add 10.59.0.0/24 via inet6 fd57::1 dev eth0
		route add blackhole 10.60.0.0/24
		route add unreachable 10.61.0.0/24
		route add prohibit 10.62.0.0/24
		route add throw 10.63.0.0/24
		route add 10.64.0.1/32 dev eth1
		route add 10.65.0.0/24 via 172.16.0.1 dev eth1 onlink
		route add 10.67.0.0/24 via 10.66.0.1
		route add 10.68.0.0/24 via 10.57.0.2 metric 50
		route add 10.68.0.0/24 via 10.99.0.2 metric 20
		route add 10.69.0.0/24 via 10.66.0.1 metric 20
		route add 10.69.0.0/24 via 10.99.0.2 metric 50
		route add 10.70.0.0/24 via 10.99.0.1 proto 179
		route add 10.71.0.0/24 dev onlink-vxlan
		route add 10.72.0.0/24 via 10.99.0.1 table 100
		route add fd58::/64 via fd57::1
		route add blackhole fd60::/64
		route add fd70::/64 via fd57::1 proto 179
		route add fd59::/64 nexthop via fd57::1 nexthop via fd57::2`)
	w := load(t)
	run(t, w)
	tests := []struct{ name, addr, want, match string }{
		{"on-link", "10.57.0.12", "on-link dev eth0", "10.57.0.0/24"},
		{"mapped address", "::ffff:10.57.0.12", "on-link dev eth0", "10.57.0.0/24"},
		{"secondary nic", "10.99.0.5", "on-link dev eth1", "10.99.0.0/24"},
		{"own address", "10.57.0.11", "self", "10.57.0.11/32"},
		{"loopback", "127.0.0.9", "self", "127.0.0.0/8"},
		{"broadcast", "10.57.0.255", "unreachable", "10.57.0.255/32"},
		{"default gateway", "192.0.2.1", "gateway via 10.57.0.1 dev eth0", "0.0.0.0/0"},
		{"multipath", "10.58.0.1", "gateway via 10.57.0.1 dev eth0 via 10.99.0.1 dev eth1", "10.58.0.0/24"},
		{"via inet6", "10.59.0.1", "gateway via fd57::1 dev eth0", "10.59.0.0/24"},
		{"blackhole", "10.60.0.1", "blackholed", "10.60.0.0/24"},
		{"unreachable", "10.61.0.1", "unreachable", "10.61.0.0/24"},
		{"prohibit", "10.62.0.1", "unreachable", "10.62.0.0/24"},
		{"throw leaves the table", "10.63.0.1", "unreachable", "invalid Prefix"},
		{"host route on a device", "10.64.0.1", "on-link dev eth1", "10.64.0.1/32"},
		{"onlink gateway", "10.65.0.1", "gateway via 172.16.0.1 dev eth1 onlink", "10.65.0.0/24"},
		{"no carrier: subnet", "10.66.0.5", "gateway via 10.57.0.1 dev eth0", "0.0.0.0/0"},
		{"no carrier: gateway", "10.67.0.5", "gateway via 10.57.0.1 dev eth0", "0.0.0.0/0"},
		{"lowest metric", "10.68.0.1", "gateway via 10.99.0.2 dev eth1", "10.68.0.0/24"},
		{"lowest metric has no carrier", "10.69.0.1", "gateway via 10.99.0.2 dev eth1", "10.69.0.0/24"},
		{"our route left out", "10.70.0.1", "gateway via 10.57.0.1 dev eth0", "0.0.0.0/0"},
		{"our device left out", "10.71.0.1", "gateway via 10.57.0.1 dev eth0", "0.0.0.0/0"},
		{"other table left out", "10.72.0.1", "gateway via 10.57.0.1 dev eth0", "0.0.0.0/0"},
		{"6: on-link", "fd57::12", "on-link dev eth0", "fd57::/64"},
		{"6: own address", "fd57::11", "self", "fd57::11/128"},
		{"6: gateway", "fd58::1", "gateway via fd57::1 dev eth0", "fd58::/64"},
		{"6: multipath", "fd59::1", "gateway via fd57::1 dev eth0 via fd57::2 dev eth0", "fd59::/64"},
		{"6: blackhole", "fd60::1", "blackholed", "fd60::/64"},
		{"6: our route left out", "fd70::1", "unreachable", "invalid Prefix"},
		{"6: no route", "2001:db8::1", "unreachable", "invalid Prefix"},
		{"6: link-local", "fe80::1%eth0", "on-link dev eth0", "invalid Prefix"},
		{"6: link-local behind no device", "fe80::1%eth77", "unreachable", "invalid Prefix"},
		{"6: not link-local, with a device", "fd57::12%eth0", "unreachable", "invalid Prefix"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := w.Reach(addr(tt.addr))
			if diff := cmp.Diff([2]string{tt.want, tt.match}, [2]string{say(r), r.Match.String()}); diff != "" {
				t.Errorf("Reach(%s): -want +got\n%s", tt.addr, diff)
			}
		})
	}
}

// TestReachVLAN: a tagged interface is a network like any other.
func TestReachVLAN(t *testing.T) {
	enterRack(t)
	if err := tryIP("link add link eth0 name eth0.5 type vlan id 5"); err != nil {
		t.Skip("needs kernel feature: vlan")
	}
	ip(t, `link set eth0.5 up
		addr add 10.75.0.11/24 dev eth0.5`)
	w := load(t)
	run(t, w)
	if got, want := say(w.Reach(addr("10.75.0.1"))), "on-link dev eth0.5"; got != want {
		t.Errorf("VLAN: got %q, want %q", got, want)
	}
}

// TestReachObject: foreign nexthop objects, alone and in a group, also when the
// kernel names only the object in the route.
func TestReachObject(t *testing.T) {
	enterRack(t)
	if err := tryIP("nexthop add id 7 via 10.57.0.1 dev eth0"); err != nil {
		t.Skip("needs kernel feature: nexthop objects")
	}
	ip(t, `nexthop add id 8 via 10.57.0.2 dev eth0
		nexthop add id 9 group 7/8
		nexthop add id 10 blackhole
		nexthop add id 11 dev eth0
		route add 10.80.0.0/24 nhid 7
		route add 10.81.0.0/24 nhid 9
		route add 10.82.0.0/24 nhid 10
		route add 10.83.0.0/24 nhid 11`)
	sysctl(t, "net/ipv4/nexthop_compat_mode", "0")
	w := load(t)
	run(t, w)
	for a, want := range map[string]string{
		"10.80.0.1": "gateway via 10.57.0.1 dev eth0",
		"10.81.0.1": "gateway via 10.57.0.1 dev eth0 via 10.57.0.2 dev eth0",
		"10.82.0.1": "blackholed",
		"10.83.0.1": "on-link dev eth0",
	} {
		if got := say(w.Reach(addr(a))); got != want {
			t.Errorf("Reach(%s) = %q, want %q", a, got, want)
		}
	}
	ip(t, "nexthop replace id 7 via 10.57.0.3 dev eth0")
	await(t, w, "object replaced", func() bool {
		return say(w.Reach(addr("10.80.0.1"))) == "gateway via 10.57.0.3 dev eth0"
	})
}
