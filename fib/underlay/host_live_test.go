package underlay

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"onlink/internal/ours"
)

// TestAddresses: every fault that the kernel or the device gives an address is
// reported, and the oldest address of a device comes first.
func TestAddresses(t *testing.T) {
	enterNetns(t)
	ip(t, `link add eth0 type veth peer name far0
	link set far0 up
	link set eth0 addrgenmode none
	link set eth0 up
	addr add 10.57.0.11/24 dev eth0
	addr add 10.57.0.12/24 dev eth0
	addr add 10.57.0.100/32 dev eth0 preferred_lft 0
	addr add 10.57.0.1/32 scope link dev eth0
	addr add fd57::11/64 dev eth0 nodad
	addr add fd57::100/128 dev eth0 nodad preferred_lft 0
	addr add fd57:1::/64 dev eth0 nodad
	link add br0 type bridge
	link set br0 up
	addr add 172.17.0.1/16 dev br0
	link add up0 type veth peer name up1
	link set up0 master br0
	link set up0 up
	addr add 10.59.0.1/24 dev up0
	link add vrrp0 link eth0 address 00:00:5e:00:01:07 type macvlan mode bridge
	addr add 10.57.0.200/24 dev vrrp0
	addr add 192.0.2.1/32 dev lo`)
	w := load(t)
	run(t, w)
	ip(t, "addr add 10.57.0.13/24 dev eth0\naddr add fd57::12/64 dev eth0 nodad")
	read := func() map[string]string {
		got := map[string]string{}
		for _, a := range w.Addresses() {
			s := fmt.Sprintf("%s %s", a.Dev, a.Kind)
			if a.Master != "" {
				s += " in " + a.Master
			}
			if a.Lower != "" {
				s += " on " + a.Lower
			}
			if !a.Global {
				s += " not global"
			}
			if a.Secondary {
				s += " secondary"
			}
			if a.Fault != "" {
				s += ": " + a.Fault
			}
			got[a.Addr.String()] = s
		}
		return got
	}
	await(t, w, "the new addresses", func() bool { g := read(); return g["10.57.0.13"] != "" && g["fd57::12"] != "" })
	diff := cmp.Diff(map[string]string{
		"192.0.2.1": "lo loopback", "10.57.0.11": "eth0 veth", "10.57.0.12": "eth0 veth secondary", "10.57.0.13": "eth0 veth secondary",
		"10.57.0.100": "eth0 veth: deprecated (preferred_lft 0)", "10.57.0.1": "eth0 veth not global",
		"fd57::11": "eth0 veth", "fd57::12": "eth0 veth", "fd57::100": "eth0 veth: deprecated (preferred_lft 0)",
		"fd57:1::":   "eth0 veth: the anycast address of all routers of its network (RFC 4291)",
		"172.17.0.1": "br0 bridge", "10.59.0.1": "up0 veth in br0",
		"10.57.0.200": "vrrp0 macvlan on eth0: of a virtual router (VRRP)",
	}, read())
	if diff != "" {
		t.Error(diff)
	}
	var order []string
	for _, a := range w.Addresses() {
		if a.Dev == "eth0" && a.Addr.Is6() && a.Fault == "" {
			order = append(order, a.Addr.String())
		}
	}
	if diff := cmp.Diff([]string{"fd57::11", "fd57::12"}, order); diff != "" {
		t.Errorf("the oldest comes first: %s", diff)
	}
	// A state that changes is an event.
	w.Drain()
	ip(t, "addr change fd57::12/64 dev eth0 preferred_lft 0")
	awaitEvents(t, w, "deprecation", func(e Events) bool {
		return e.Addrs && read()["fd57::12"] == "eth0 veth: deprecated (preferred_lft 0)"
	})
}

// TestTentative: an address is pending until duplicate address detection ends,
// and then an event follows.
func TestTentative(t *testing.T) {
	enterNetns(t)
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/dad_transmits", []byte("3"), 0o644); err != nil {
		t.Fatal(err)
	}
	ip(t, `link add eth0 type veth peer name far0
	link set far0 up
	link set eth0 up
	addr add fd57::11/64 dev eth0`)
	w := load(t)
	run(t, w)
	state := func() (pending bool, fault string) {
		for _, a := range w.Addresses() {
			if a.Addr == addr("fd57::11") {
				return a.Pending, a.Fault
			}
		}
		return false, "gone"
	}
	if pending, fault := state(); !pending || fault != "tentative" {
		t.Fatalf("pending %t, fault %q at the start", pending, fault)
	}
	await(t, w, "the end of duplicate address detection", func() bool { pending, fault := state(); return !pending && fault == "" })
}

// TestAsk: routes, sources, devices and neighbours as the kernel answers.
func TestAsk(t *testing.T) {
	enterNetns(t)
	ip(t, rack+`
	addr add 192.0.2.1/32 dev lo
	route add 198.51.100.0/24 via 10.57.0.1 src 192.0.2.1 proto static
	route add 10.99.0.0/16 via 10.57.0.1 proto 179
	neigh add 10.57.0.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent
	neigh add fd57::1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent router`)
	plain := func(r KernelRoute) KernelRoute { // TestWay looks at the others
		r.Type, r.Table, r.Metric = 0, 0, 0
		return r
	}
	source, err := Source(addr("198.51.100.7"))
	source = plain(source)
	if want := (KernelRoute{Dst: netip.MustParsePrefix("198.51.100.7/32"), Dev: "eth0", Via: addr("10.57.0.1"), Src: addr("192.0.2.1")}); err != nil || source != want {
		t.Errorf("Source: %+v, %v; want %+v", source, err, want)
	}
	for _, c := range []struct {
		to   string
		want KernelRoute
	}{
		{"198.51.100.7", KernelRoute{Dst: netip.MustParsePrefix("198.51.100.0/24"), Protocol: unix.RTPROT_STATIC, Dev: "eth0", Via: addr("10.57.0.1"), Src: addr("192.0.2.1")}},
		{"10.99.1.1", KernelRoute{Dst: netip.MustParsePrefix("10.99.0.0/16"), Protocol: ours.Protocol, Dev: "eth0", Via: addr("10.57.0.1")}},
		{"10.57.0.7", KernelRoute{Dst: netip.MustParsePrefix("10.57.0.0/24"), Protocol: unix.RTPROT_KERNEL, Dev: "eth0", Src: addr("10.57.0.11")}},
		{"10.57.0.11", KernelRoute{Dst: netip.MustParsePrefix("10.57.0.11/32"), Protocol: unix.RTPROT_KERNEL, Dev: "eth0", Src: addr("10.57.0.11"), Self: true}},
		{"fd57::7", KernelRoute{Dst: netip.MustParsePrefix("fd57::/64"), Protocol: unix.RTPROT_KERNEL, Dev: "eth0"}},
	} {
		if got, err := Lookup(addr(c.to)); err != nil || plain(got) != c.want {
			t.Errorf("Lookup(%s): %+v, %v; want %+v", c.to, got, err, c.want)
		}
	}
	if got, err := Lookup(addr("203.0.113.1")); !errors.Is(err, ErrNoRoute) {
		t.Errorf("Lookup without a route: %+v, %v", got, err)
	}
	ip(t, `route add 198.18.0.0/16 nexthop via 10.57.0.1 dev eth0 nexthop via 10.57.0.2 dev eth0
	route add fd99::/64 nexthop via fd57::1 dev eth0 nexthop via fd57::2 dev eth0`)
	for to, want := range map[string][]Gateway{
		"198.18.1.1": {{"eth0", addr("10.57.0.1")}, {"eth0", addr("10.57.0.2")}},
		"fd99::1":    {{"eth0", addr("fd57::1")}, {"eth0", addr("fd57::2")}},
		"10.99.1.1":  nil,
	} {
		got, err := Gateways(addr(to))
		slices.SortFunc(got, func(a, b Gateway) int { return a.Via.Compare(b.Via) })
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("Gateways(%s): %+v, %v; want %+v", to, got, err, want)
		}
	}
	if n, err := Index("lo"); n != 1 || err != nil {
		t.Errorf("Index(lo): %d, %v", n, err)
	}
	for _, name := range []string{"nosuch0", "a-name-longer-than-any"} {
		if _, err := Neighbours(name); !errors.Is(err, ErrNoDevice) {
			t.Errorf("Neighbours(%s): %v", name, err)
		}
	}
	got := map[string]Neighbour{}
	list, err := Neighbours("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list {
		got[n.Addr.String()] = n
	}
	for _, want := range []Neighbour{{Addr: addr("10.57.0.1"), State: unix.NUD_PERMANENT}, {Addr: addr("fd57::1"), State: unix.NUD_PERMANENT, Router: true}} {
		one := got[want.Addr.String()]
		if one.Addr != want.Addr || one.State != want.State || one.Router != want.Router || len(one.MAC) != 6 {
			t.Errorf("neighbour %s: %+v, want %+v", want.Addr, got[want.Addr.String()], want)
		}
	}
}

// TestNetworks: networks of addresses and of routes, and gateways, without ours.
func TestNetworks(t *testing.T) {
	enterNetns(t)
	ip(t, rack+`
	link add onlink-x type veth peer name far1
	link set onlink-x alias onlink up
	addr add 10.90.0.1/24 dev onlink-x
	addr add 192.0.2.1/32 dev lo
	route add 10.91.0.0/24 dev eth0
	route add default via 10.57.0.1
	route add 10.92.0.1/32 dev eth0
	route add 10.93.0.0/24 via 10.92.0.1 dev eth0 onlink
	route add 10.94.0.0/24 dev eth0 proto 179
	route add blackhole 10.95.0.0/24
	route add fd58::/64 via fe80::1 dev eth0`)
	w := load(t)
	defer func() {
		if err := w.closeSockets(); err != nil {
			t.Error(err)
		}
	}()
	var got []string
	for _, n := range w.Networks() {
		s := n.Prefix.String() + " " + n.Dev
		if n.Via {
			s += " via"
		}
		got = append(got, s)
	}
	want := []string{
		"10.57.0.0/24 eth0", "10.57.0.1/32 eth0 via", "10.57.0.11/32 eth0", "10.91.0.0/24 eth0", "10.92.0.1/32 eth0 via",
		"fd57::/64 eth0", "fd57::11/128 eth0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
