package underlay

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"onlink/internal/ours"
)

// sysctl sets a kernel parameter of the thread's namespace.
func sysctl(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
		t.Skip("needs kernel feature: sysctl " + name)
	}
}

// TestFollow: each change of the kernel changes the answer, and the events name
// the next hops concerned.
func TestFollow(t *testing.T) {
	const far = "10.58.0.1"
	tests := []struct {
		name         string
		before, do   string
		addr         string
		first, later string
		link         string // expected in Events.Links
		addrs        bool   // expected Events.Addrs
		spared       string // an address the events must not affect
	}{
		{
			name: "route added", do: "route add 10.58.0.0/24 via 10.57.0.1", addr: far,
			first: "unreachable", later: "gateway via 10.57.0.1 dev eth0", spared: "10.57.0.12",
		},
		{
			name: "route deleted", before: "route add 10.58.0.0/24 via 10.57.0.1", do: "route del 10.58.0.0/24", addr: far,
			first: "gateway via 10.57.0.1 dev eth0", later: "unreachable", spared: "10.57.0.12",
		},
		{
			name: "route replaced", before: "route add 10.58.0.0/24 via 10.57.0.1", do: "route replace 10.58.0.0/24 via 10.57.0.2",
			addr: far, first: "gateway via 10.57.0.1 dev eth0", later: "gateway via 10.57.0.2 dev eth0", spared: "10.57.0.12",
		},
		{
			name: "shorter route added", before: "route add 10.58.0.0/24 via 10.57.0.1", do: "route add default via 10.57.0.9",
			addr: "192.0.2.1", first: "unreachable", later: "gateway via 10.57.0.9 dev eth0",
		},
		{
			name: "link down", before: "route add 10.58.0.0/24 via 10.57.0.1", do: "link set eth0 down", addr: far,
			first: "gateway via 10.57.0.1 dev eth0", later: "unreachable", link: "eth0", addrs: true,
		},
		{
			name: "carrier lost", do: "link set far0 down", addr: "10.57.0.12",
			first: "on-link dev eth0", later: "unreachable", link: "eth0",
		},
		{
			name: "link up", before: "link set eth0 down", do: "link set eth0 up", addr: "10.57.0.12",
			first: "unreachable", later: "on-link dev eth0", link: "eth0",
		},
		{
			name: "link deleted", do: "link del eth0", addr: "10.57.0.12",
			first: "on-link dev eth0", later: "unreachable", link: "eth0", addrs: true,
		},
		{
			name: "link renamed", do: "link set eth0 down\nlink set eth0 name up0\nlink set up0 up", addr: "10.57.0.12",
			first: "on-link dev eth0", later: "on-link dev up0", link: "up0", addrs: true,
		},
		{
			name: "address added", do: "addr add 10.76.0.1/24 dev eth0", addr: "10.76.0.2",
			first: "unreachable", later: "on-link dev eth0", addrs: true, spared: "10.57.0.12",
		},
		{
			name: "address becomes ours", do: "addr add 10.57.0.12/24 dev eth0", addr: "10.57.0.12",
			first: "on-link dev eth0", later: "self", addrs: true, spared: "10.57.0.13",
		},
		{
			name: "address deleted, route silently", before: "addr add 10.76.0.1/24 dev eth0\nroute add 10.58.0.0/24 via 10.57.0.2 src 10.76.0.1",
			do: "addr del 10.76.0.1/24 dev eth0", addr: far,
			first: "gateway via 10.57.0.2 dev eth0", later: "unreachable", addrs: true, spared: "10.57.0.12",
		},
		{
			name: "6: route added", do: "route add fd58::/64 via fd57::1", addr: "fd58::1",
			first: "unreachable", later: "gateway via fd57::1 dev eth0", spared: "fd57::12",
		},
		{
			name: "6: link down", before: "route add fd58::/64 via fd57::1", do: "link set eth0 down", addr: "fd58::1",
			first: "gateway via fd57::1 dev eth0", later: "unreachable", link: "eth0", addrs: true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			enterRack(t)
			if tt.before != "" {
				ip(t, tt.before)
			}
			w := load(t)
			run(t, w)
			w.Drain()
			if got := say(w.Reach(addr(tt.addr))); got != tt.first {
				t.Fatalf("before: Reach(%s) = %q, want %q", tt.addr, got, tt.first)
			}
			ip(t, tt.do)
			e := await(t, w, tt.do, func() bool { return say(w.Reach(addr(tt.addr))) == tt.later })
			if !e.Affects(addr(tt.addr)) {
				t.Errorf("events do not affect %s: %+v", tt.addr, e)
			}
			if tt.spared != "" && e.Affects(addr(tt.spared)) {
				t.Errorf("events affect %s: %+v", tt.spared, e)
			}
			if tt.link != "" && !slices.Contains(e.Links, tt.link) {
				t.Errorf("events name links %v, want %s among them", e.Links, tt.link)
			}
			if e.Addrs != tt.addrs {
				t.Errorf("Events.Addrs = %v, want %v", e.Addrs, tt.addrs)
			}
			if e.Relisted {
				t.Errorf("notifications were lost")
			}
		})
	}
}

// routesOf returns n ip commands for routes of a protocol.
func routesOf(n int, protocol string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "route add 10.%d.%d.0/24 via 10.57.0.1 proto %s\n", 100+i/256, i%256, protocol)
	}
	return b.String()
}

// small returns a Watcher whose receive buffer holds a few notifications.
func small(t *testing.T) *Watcher {
	t.Helper()
	w := New(slog.New(slog.DiscardHandler), isOurs)
	w.rcvbuf = 4096
	if err := w.Load(); err != nil {
		t.Fatalf("Load: %v", err)
	}
	w.Drain()
	return w
}

// TestOverrun: lost notifications lead to a list, and no change is missed.
func TestOverrun(t *testing.T) {
	enterRack(t)
	w := small(t)
	ip(t, routesOf(300, "static")+"link set eth0 mtu 1400")
	run(t, w)
	e := await(t, w, "list after overrun", func() bool {
		return say(w.Reach(addr("10.101.43.1"))) == "gateway via 10.57.0.1 dev eth0" && w.MTU("eth0") == 1400
	})
	if !e.Relisted {
		t.Errorf("the buffer was meant to overrun: %+v", e)
	}
	if !slices.Contains(e.Links, "eth0") {
		t.Errorf("the MTU change was lost: links %v", e.Links)
	}
	ip(t, "route add 10.58.0.0/24 via 10.57.0.2")
	await(t, w, "notifications after overrun", func() bool { return say(w.Reach(addr("10.58.0.1"))) != "unreachable" })
}

// TestOwnChurn: the echo of writes from our ports does not reach the socket, so
// it cannot overrun it and causes no list.
func TestOwnChurn(t *testing.T) {
	enterRack(t)
	w := small(t)
	churn(t, 300)
	run(t, w)
	ip(t, "route add 10.58.0.0/24 via 10.57.0.2")
	e := await(t, w, "a foreign route after 300 of ours", func() bool { return say(w.Reach(addr("10.58.0.1"))) != "unreachable" })
	want := Events{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.58.0.0/24")}}
	if diff := cmp.Diff(want, e, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("events: -want +got\n%s", diff)
	}
}

// churn adds routes of our protocol, one after the other, from one of our
// ports.
func churn(t *testing.T, n int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: ours.FirstPort + 7}); err != nil {
		t.Fatal(err)
	}
	const size = unix.SizeofNlMsghdr + unix.SizeofRtMsg + 8
	answer := make([]byte, 4096)
	for i := range n {
		m := make([]byte, size)
		binary.NativeEndian.PutUint32(m, size)
		binary.NativeEndian.PutUint16(m[4:], unix.RTM_NEWROUTE)
		binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE)
		copy(m[unix.SizeofNlMsghdr:], []byte{unix.AF_INET, 32, 0, 0, unix.RT_TABLE_MAIN, ours.Protocol, unix.RT_SCOPE_UNIVERSE, unix.RTN_BLACKHOLE})
		binary.NativeEndian.PutUint16(m[size-8:], 8)
		binary.NativeEndian.PutUint16(m[size-6:], unix.RTA_DST)
		copy(m[size-4:], []byte{10, 99, byte(i >> 8), byte(i)})
		if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := unix.Recvfrom(fd, answer, 0); err != nil {
			t.Fatal(err)
		}
		if code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
			t.Fatalf("add route %d: %v", i, unix.Errno(-code))
		}
	}
}

// TestTouched: a route of ours that another program adds or removes is reported.
func TestTouched(t *testing.T) {
	enterRack(t)
	churn(t, 1)
	w := load(t)
	run(t, w)
	w.Drain()
	for _, change := range []string{"route del blackhole 10.99.0.0/32", "route add blackhole 10.99.0.0/32 proto 179"} {
		ip(t, change)
		e := awaitEvents(t, w, change, func(e Events) bool { return e.Touched })
		if e.All || len(e.Prefixes) > 0 {
			t.Errorf("%s: %+v; our own routes are no underlay", change, e)
		}
	}
	const taken = "route replace unreachable 10.99.0.0/32 proto static"
	ip(t, taken)
	awaitEvents(t, w, taken, func(e Events) bool { return e.Touched })
}

// TestDeadSocket: a socket that fails is replaced and everything listed.
func TestDeadSocket(t *testing.T) {
	for _, name := range []string{"subscription", "dump"} {
		t.Run(name, func(t *testing.T) {
			enterRack(t)
			w := load(t)
			w.Drain()
			switch name {
			case "subscription":
				if err := w.sub.close(); err != nil {
					t.Fatal(err)
				}
			case "dump": // a number that is certainly closed
				if err := unix.Close(w.dump.fd); err != nil {
					t.Fatal(err)
				}
				w.dump.fd = 1 << 20
			}
			ip(t, "route add 10.58.0.0/24 via 10.57.0.2")
			run(t, w)
			awaitEvents(t, w, "list after reopening", func(e Events) bool {
				return e.Relisted && say(w.Reach(addr("10.58.0.1"))) != "unreachable"
			})
		})
	}
}

// TestOwnDevices: our devices are named in events but change no answer.
func TestOwnDevices(t *testing.T) {
	enterRack(t)
	w := load(t)
	run(t, w)
	w.Drain()
	ip(t, `link add onlabc type veth peer name pod0
		link set pod0 up
		link set onlabc group 1330380802
		link set onlabc up
		addr add 10.77.0.1/24 dev onlabc`)
	e := awaitEvents(t, w, "our device", func(e Events) bool { return slices.Contains(e.Links, "onlabc") })
	if e.Addrs || e.Affects(addr("10.77.0.2")) {
		t.Errorf("our own device counts as underlay: %+v", e)
	}
}

// TestForeignNames: devices with names like ours are part of the underlay, until
// one gets our mark.
func TestForeignNames(t *testing.T) {
	enterRack(t)
	ip(t, `link add onlan0 type veth peer name far1
		link add onl0123456789a type veth peer name far2
		link add onlink-vxlan type bridge
		link set far1 up
		link set onlan0 up
		link set far2 up
		link set onl0123456789a up
		link set onlink-vxlan up
		link set far2 master onlink-vxlan
		addr add 10.77.0.1/24 dev onlan0
		addr add 10.78.0.1/24 dev onl0123456789a
		addr add 10.79.0.1/24 dev onlink-vxlan`)
	w := load(t)
	run(t, w)
	want := map[string]string{"10.77.0.2": "onlan0", "10.78.0.2": "onl0123456789a", "10.79.0.2": "onlink-vxlan"}
	for a, dev := range want {
		await(t, w, "a device of somebody else", func() bool { return say(w.Reach(addr(a))) == "on-link dev "+dev })
	}
	ip(t, `link set onl0123456789a group 1330380802`)
	await(t, w, "a device that became ours", func() bool { return say(w.Reach(addr("10.78.0.2"))) == "unreachable" })
}

// TestNode: the queries of the composition root about the node itself.
func TestNode(t *testing.T) {
	enterRack(t)
	ip(t, `addr add 10.0.0.7/32 dev lo
		link add eth1 type veth peer name far1
		link set far1 up
		link set eth1 addrgenmode none
		link set eth1 mtu 1400 up
		addr add 10.99.0.11/24 dev eth1
		route add default nexthop via 10.57.0.1 nexthop via 10.99.0.1`)
	w := load(t)
	run(t, w)
	type node struct {
		Addrs, Subnets string
		Links          [3]string
		Problem        string
	}
	link := func(a string) string {
		dev, mtu := w.LinkFor(addr(a))
		return fmt.Sprint(dev, " ", mtu)
	}
	got := node{fmt.Sprint(w.Addrs()), fmt.Sprint(w.Subnets()), [3]string{link("10.57.0.11"), link("10.0.0.7"), link("10.1.1.1")}, w.Problem()}
	want := node{
		"[10.0.0.7 10.57.0.11 10.99.0.11 fd57::11]",
		"[10.0.0.7/32 10.57.0.0/24 10.99.0.0/24 127.0.0.0/8 ::1/128 fd57::/64]",
		[3]string{"eth0 1500", "eth1 1400", " 0"},
		"",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("node: -want +got\n%s", diff)
	}
	ip(t, "link set eth0 mtu 1300")
	e := await(t, w, "MTU change", func() bool { return w.MTU("eth0") == 1300 })
	if !slices.Contains(e.Links, "eth0") {
		t.Errorf("events name links %v, want eth0", e.Links)
	}
	if err := tryIP("rule add from 10.1.0.0/16 lookup 100 priority 500"); err != nil {
		t.Skip("needs kernel feature: policy rules")
	}
	ip(t, "route add 10.58.0.0/24 via 10.57.0.2")
	await(t, w, "policy rule noticed", func() bool { return strings.Contains(w.Problem(), "rule 500 (table 100)") })
}

// TestSettings: a change of forwarding is reported, of one device and of all of
// them, but not of a pod's.
func TestSettings(t *testing.T) {
	enterRack(t)
	ip(t, fmt.Sprintf("link add onlpod type veth peer name farpod\nlink set onlpod group %d", ours.PodServing))
	settings := []string{"net/ipv4/conf/eth0/forwarding", "net/ipv6/conf/eth0/forwarding", "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"}
	for _, name := range settings {
		sysctl(t, name, "0")
	}
	w := load(t)
	for device, want := range map[string]bool{"onlpod": false, "eth0": true} {
		link, err := net.InterfaceByName(device)
		if err != nil {
			t.Fatal(err)
		}
		renewed := w.Renewed()
		body := []byte{unix.AF_INET, 0, 0, 0, 8, 0, 1, 0} // struct netconfmsg, and the head of NETCONFA_IFINDEX
		w.handleSetting(binary.NativeEndian.AppendUint32(body, uint32(link.Index)))
		select {
		case <-renewed:
			if !want {
				t.Errorf("a setting of %s is reported", device)
			}
		default:
			if want {
				t.Errorf("a setting of %s is not reported", device)
			}
		}
	}
	run(t, w)
	for _, name := range settings {
		renewed := w.Renewed()
		sysctl(t, name, "1")
		select {
		case <-renewed:
		case <-time.After(patience):
			t.Errorf("%s: not reported within %v", name, patience)
		}
	}
}
