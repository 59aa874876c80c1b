package underlay

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// packetRack is a node with an uplink and the device of a pod.
const packetRack = `link add eth0 type veth peer name far0
	link set far0 up
	link set eth0 up
	addr add 10.57.0.11/24 dev eth0
	addr add fd57::11/64 dev eth0 nodad
	link add onl0 type veth peer name pod0
	link set pod0 up
	link set onl0 up
	route add 10.244.1.5/32 dev onl0 proto 179
	route add fd00:244::5/128 dev onl0 proto 179
	route add 10.244.2.0/26 via 10.57.0.12 proto 179
	route add fd00:245::/64 via fd57::12 proto 179`

// TestWay: the kernel's own decision for a packet of a pod and for one of the node,
// and the rule and route behind it, which the kernel does not name when it refuses
// the packet. Both agree on everything that the kernel says.
func TestWay(t *testing.T) {
	const onlink = "10.244.2.0/26 unicast proto 179 table main dev eth0"
	for _, c := range []struct {
		name, commands string
		from, to, in   string
		errno          error
		rule, route    string // of the trace; "": none
	}{
		{"as decided", "", "10.244.1.5", "10.244.2.7", "onl0", nil, "from all lookup main", onlink},
		{"of the node", "", "", "10.244.2.7", "", nil, "from all lookup main", onlink},
		{"IPv6", "", "fd00:244::5", "fd00:245::7", "onl0", nil, "from all lookup main", "fd00:245::/64 unicast proto 179 table main dev eth0"},
		{"an address of the node", "", "", "10.57.0.11", "", nil, "from all lookup local", "10.57.0.11/32 local proto 2 table local dev eth0"},
		{"a blackhole", "route add blackhole 10.244.2.7/32", "10.244.1.5", "10.244.2.7", "onl0", unix.EINVAL, "from all lookup main", "10.244.2.7/32 blackhole proto 3 table main dev "},
		{"an IPv6 blackhole", "route add blackhole fd00:245::7/128", "fd00:244::5", "fd00:245::7", "onl0", unix.EINVAL, "from all lookup main", "fd00:245::7/128 blackhole proto 3 table main dev lo"},
		{"unreachable", "route add unreachable 10.244.2.0/28", "10.244.1.5", "10.244.2.7", "onl0", unix.EHOSTUNREACH, "from all lookup main", "10.244.2.0/28 unreachable proto 3 table main dev "},
		{"prohibit", "route add prohibit 10.244.2.0/28", "", "10.244.2.7", "", unix.EACCES, "from all lookup main", "10.244.2.0/28 prohibit proto 3 table main dev "},
		{"throw", "route add throw 10.244.2.0/28", "", "10.244.2.7", "", unix.ENETUNREACH, "", ""},
		{"a better metric", "route del 10.244.2.0/26\nroute add 10.244.2.0/26 via 10.57.0.12 proto 179 metric 50\nroute add blackhole 10.244.2.0/26 metric 10", "", "10.244.2.7", "", unix.EINVAL, "from all lookup main", "10.244.2.0/26 blackhole proto 3 table main dev "},
		{"no route", "", "", "192.0.2.1", "", unix.ENETUNREACH, "", ""},
		{"a rule for the pods", "route add blackhole default table 100\nrule add from 10.244.0.0/16 lookup 100 pref 1000", "10.244.1.5", "10.244.2.7", "onl0", unix.EINVAL, "from 10.244.0.0/16 lookup 100", "0.0.0.0/0 blackhole proto 3 table 100 dev "},
		{"and not for the node", "route add blackhole default table 100\nrule add from 10.244.0.0/16 lookup 100 pref 1000", "", "10.244.2.7", "", nil, "from all lookup main", onlink},
		{"a rule by device", "route add default via 10.57.0.1 table 100\nrule add iif onl0 lookup 100 pref 1000", "10.244.1.5", "10.244.2.7", "onl0", nil, "from all iif onl0 lookup 100", "0.0.0.0/0 unicast proto 3 table 100 dev eth0"},
		{"a rule by mark", "route add blackhole default table 100\nrule add fwmark 1 lookup 100 pref 1000", "10.244.1.5", "10.244.2.7", "onl0", nil, "from all lookup main", onlink},
		{"a rule that drops", "rule add to 10.244.2.0/24 prohibit pref 1000", "10.244.1.5", "10.244.2.7", "onl0", unix.EACCES, "from all to 10.244.2.0/24 prohibit", ""},
		{"a rule that drops others", "rule add not from 10.244.0.0/16 blackhole pref 1000", "10.244.1.5", "10.244.2.7", "onl0", nil, "from all lookup main", onlink},
		{"a goto", "route add blackhole default table 100\nrule add pref 32000 nop\nrule add pref 900 goto 32000\nrule add from 10.244.0.0/16 lookup 100 pref 1000", "10.244.1.5", "10.244.2.7", "onl0", nil, "from all lookup main", onlink},
		{"the long routes alone", "route add default via 10.57.0.1\nrule add lookup main suppress_prefixlength 0 pref 900\nroute add blackhole default table 100\nrule add lookup 100 pref 1000", "", "192.0.2.1", "", unix.EINVAL, "from all lookup 100", "0.0.0.0/0 blackhole proto 3 table 100 dev "},
		{"IPv6 by a rule", "-6 route add unreachable default table 100\n-6 rule add from fd00:244::/64 lookup 100 pref 1000", "fd00:244::5", "fd00:245::7", "onl0", unix.EHOSTUNREACH, "from fd00:244::/64 lookup 100", "::/0 unreachable proto 3 table 100 dev lo"},
	} {
		t.Run(c.name, func(t *testing.T) {
			enterNetns(t)
			sysctl(t, "net/ipv4/ip_forward", "1")
			sysctl(t, "net/ipv6/conf/all/forwarding", "1")
			ip(t, packetRack)
			for line := range strings.Lines(c.commands) { // not as a batch, which has one family
				if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
					t.Fatalf("ip %s: %v: %s", line, err, out)
				}
			}
			p := Packet{To: addr(c.to), In: c.in}
			if c.from != "" {
				p.From = addr(c.from)
			}
			got, err := Way(p)
			if !errors.Is(err, c.errno) || err == nil != (c.errno == nil) {
				t.Errorf("Way: %v, want %v", err, c.errno)
			}
			if got.Self {
				got.Table = unix.RT_TABLE_LOCAL // without rules tables local and main are one
			}
			if err == nil && text(got) != c.route {
				t.Errorf("Way: %s, want %s", text(got), c.route)
			}
			trace, err := TraceOf(p)
			if err != nil {
				t.Fatal(err)
			}
			route := ""
			if trace.Found {
				route = text(trace.Route)
			}
			if trace.Rule.Text != c.rule || route != c.route {
				t.Errorf("TraceOf: %q, %q; want %q, %q", trace.Rule.Text, route, c.rule, c.route)
			}
		})
	}
}

// text renders a route.
func text(r KernelRoute) string {
	return fmt.Sprintf("%s %s proto %d table %s dev %s", r.Dst, r.TypeName(), r.Protocol, TableName(r.Table), r.Dev)
}

// TestWayVRF: the packets of a device in a VRF are looked up in its table.
func TestWayVRF(t *testing.T) {
	enterNetns(t)
	sysctl(t, "net/ipv4/ip_forward", "1")
	ip(t, packetRack)
	if err := tryIP("link add red type vrf table 77"); err != nil {
		t.Skip("needs kernel feature: vrf")
	}
	ip(t, `link set red up
	route add blackhole default table 77
	link set onl0 master red`)
	trace, err := TraceOf(Packet{From: addr("10.244.1.5"), To: addr("10.244.2.7"), In: "onl0"})
	if err != nil || !trace.Found || !trace.Rule.VRF || trace.Rule.Table != 77 || trace.Route.Dst != netip.MustParsePrefix("0.0.0.0/0") {
		t.Errorf("%+v, %v; want the drop route of table 77", trace, err)
	}
	l, err := Link("onl0")
	if err != nil || l.VRF != "red" || l.VRFTable != 77 || l.Master != "red" {
		t.Errorf("%+v, %v", l, err)
	}
}

// TestLink: the state of a device now.
func TestLink(t *testing.T) {
	enterNetns(t)
	ip(t, `link add eth0 mtu 1400 type veth peer name far0
	link add br0 type bridge
	link set eth0 master br0
	link set eth0 up`)
	want := LinkState{Name: "eth0", Up: true, MTU: 1400, Kind: "veth", Master: "br0"}
	if got, err := Link("eth0"); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	ip(t, "link set far0 up")
	if got, err := Link("eth0"); err != nil || !got.Carrier {
		t.Errorf("%+v, %v; want a carrier", got, err)
	}
	if _, err := Link("nosuch0"); !errors.Is(err, ErrNoDevice) {
		t.Errorf("%v, want %v", err, ErrNoDevice)
	}
}
