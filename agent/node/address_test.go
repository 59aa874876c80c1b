package node

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"onlink/agent/config"
	"onlink/fib/underlay"
)

// host makes addresses from words: ADDRESS/BITS DEVICE KIND [pending | FAULT].
func host(t *testing.T, lines ...string) []underlay.Address {
	t.Helper()
	var out []underlay.Address
	for _, line := range lines {
		w := strings.Fields(line)
		p := netip.MustParsePrefix(w[0])
		a := underlay.Address{Addr: p.Addr(), Subnet: p.Masked(), Dev: w[1], Kind: w[2], Global: true}
		if a.Kind == "hw" {
			a.Kind = ""
		}
		for _, word := range w[3:] {
			switch {
			case word == "pending":
				a.Pending, a.Fault = true, "tentative"
			case word == "secondary":
				a.Secondary = true
			case strings.HasPrefix(word, "on:"):
				a.Lower = word[3:]
			case strings.HasPrefix(word, "in:"):
				a.Master = word[3:]
			default:
				a.Fault = word
			}
		}
		out = append(out, a)
	}
	return out
}

// ways is the kernel's answer for some targets: SOURCE DEVICE [self | src].
func ways(table map[string]string, match bool) func(netip.Addr) (underlay.KernelRoute, error) {
	return func(a netip.Addr) (underlay.KernelRoute, error) {
		text, ok := table[a.String()]
		if !ok {
			return underlay.KernelRoute{}, underlay.ErrNoRoute
		}
		w := strings.Fields(text)
		r := underlay.KernelRoute{Src: netip.MustParseAddr(w[0]), Dev: w[1], Self: strings.HasSuffix(text, " self")}
		if match && !strings.HasSuffix(text, " src") {
			r.Src = netip.Addr{}
		}
		return r, nil
	}
}

func TestChoose(t *testing.T) {
	usual := []string{"10.0.0.11/24 eth0 hw", "fd00:1::11/64 eth0 hw"}
	with := func(more ...string) []string { return append(more, usual...) }
	for _, c := range []struct {
		name, want string
		host       []string
		ways       map[string]string
		targets    []string
		v4, v6     string
		pending    bool
	}{
		{
			name: "auto: towards the peer, past a container bridge", want: "auto", host: with("172.17.0.1/16 docker0 bridge"),
			targets: []string{"10.0.0.1"}, ways: map[string]string{"10.0.0.1": "10.0.0.11 eth0"}, v4: "10.0.0.11", v6: "fd00:1::11",
		},
		{
			name: "auto: a bridge that is the uplink", want: "auto", host: []string{"10.0.0.11/24 br0 bridge", "fd00:1::11/64 br0 bridge"},
			targets: []string{"10.0.0.1"}, ways: map[string]string{"10.0.0.1": "10.0.0.11 br0"}, v4: "10.0.0.11", v6: "fd00:1::11",
		},
		{
			name: "auto: the peer before the default route", want: "auto", host: with("192.168.7.2/24 mgmt0 hw"),
			targets: []string{"10.0.0.1", "192.0.2.1"}, ways: map[string]string{"10.0.0.1": "10.0.0.11 eth0", "192.0.2.1": "192.168.7.2 mgmt0"}, v4: "10.0.0.11", v6: "fd00:1::11",
		},
		{
			name: "auto: the default route when no peer is reached", want: "auto", host: with("192.168.7.2/24 mgmt0 hw"),
			targets: []string{"10.9.0.1", "192.0.2.1"}, ways: map[string]string{"192.0.2.1": "192.168.7.2 mgmt0"}, v4: "192.168.7.2",
		},
		{
			name: "auto: an address of the loopback device that the route names", want: "auto", host: []string{"10.255.0.11/32 lo loopback", "172.16.0.1/31 eth0 hw"},
			targets: []string{"10.0.0.1"}, ways: map[string]string{"10.0.0.1": "10.255.0.11 eth0 src"}, v4: "10.255.0.11",
		},
		{
			name: "auto: an address of another device that the kernel found anywhere", want: "auto", host: []string{"172.17.0.1/16 docker0 bridge", "172.18.0.1/16 br1 bridge"},
			targets: []string{"10.0.0.1"}, ways: map[string]string{"10.0.0.1": "172.17.0.1 eth0"},
		},
		{
			name: "auto: a dummy's address that the route names", want: "auto", host: []string{"10.255.0.11/32 dummy0 dummy", "172.16.0.1/31 eth0 hw"},
			targets: []string{"10.0.0.1"}, ways: map[string]string{"10.0.0.1": "10.255.0.11 eth0 src"}, v4: "10.255.0.11",
		},
		{
			name: "auto: a VRF's own address", want: "auto", host: []string{"10.255.0.11/32 vrf1 vrf", "fe90::1/64 eth0 hw in:vrf1"},
			targets: []string{"10.0.0.1"}, ways: map[string]string{"10.0.0.1": "10.255.0.11 eth0"}, v4: "10.255.0.11",
		},
		{
			name: "auto: a temporary source is replaced by its device's lasting address", want: "auto", host: []string{"fd00:1::abcd/64 eth0 hw temporary", "fd00:1::11/64 eth0 hw"},
			targets: []string{"fd00:1::1"}, ways: map[string]string{"fd00:1::1": "fd00:1::abcd eth0"}, v6: "fd00:1::11",
		},
		{
			name: "auto: a virtual router's source is replaced by the address below", want: "auto", host: []string{"10.0.0.11/24 eth0 hw", "10.0.0.100/24 vrrp.7 macvlan VRRP on:eth0"},
			targets: []string{"10.0.0.1"}, ways: map[string]string{"10.0.0.1": "10.0.0.100 vrrp.7"}, v4: "10.0.0.11",
		},
		{
			name: "auto: this node is the registry", want: "auto", host: with("172.17.0.1/16 docker0 bridge", "192.168.7.2/24 mgmt0 hw"),
			targets: []string{"10.0.0.11"}, ways: map[string]string{"10.0.0.11": "10.0.0.11 lo self"}, v4: "10.0.0.11", v6: "fd00:1::11",
		},
		{name: "auto: no route, one device that can be the uplink", want: "auto", host: with("172.17.0.1/16 docker0 bridge", "192.0.2.9/32 lo loopback", "10.1.0.1/32 veth1 veth"), v4: "10.0.0.11", v6: "fd00:1::11"},
		{name: "auto: the same inside a container", want: "auto", host: []string{"10.0.0.11/24 eth0 veth", "fd00:1::100/128 eth0 veth deprecated", "fd00:1::11/64 eth0 veth"}, v4: "10.0.0.11", v6: "fd00:1::11"},
		{name: "auto: no route, two devices", want: "auto", host: with("192.168.7.2/24 mgmt0 hw")},
		{name: "auto: bridges, loopback and dummies alone", want: "auto", host: []string{"172.17.0.1/16 docker0 bridge", "10.1.1.1/32 lo loopback", "10.2.2.2/32 dummy0 dummy"}},
		{
			name: "a device: not its deprecated address", want: "eth0", host: []string{"10.0.0.100/32 eth0 hw deprecated", "10.0.0.11/24 eth0 hw", "fd00:1::100/128 eth0 hw deprecated", "fd00:1::11/64 eth0 hw"},
			v4: "10.0.0.11", v6: "fd00:1::11",
		},
		{name: "a device: a network before one address alone", want: "eth0", host: []string{"10.0.0.100/32 eth0 hw", "10.0.0.11/24 eth0 hw"}, v4: "10.0.0.11"},
		{name: "a device: the oldest", want: "eth0", host: []string{"10.0.0.11/24 eth0 hw", "10.0.0.12/24 eth0 hw secondary", "10.5.0.1/24 eth0 hw"}, v4: "10.0.0.11"},
		{name: "a device: a bridge that is named", want: "br0", host: []string{"10.0.0.11/24 br0 bridge"}, v4: "10.0.0.11"},
		{name: "a device: only addresses that are not for use", want: "eth0", host: []string{"10.0.0.100/32 eth0 hw deprecated"}},
		{name: "a device: IPv6 is about to come", want: "eth0", host: []string{"10.0.0.11/24 eth0 hw", "fd00:1::11/64 eth0 hw pending"}, v4: "10.0.0.11", pending: true},
		{name: "an address: IPv6 of another device is about to come", want: "10.0.0.11", host: []string{"10.0.0.11/24 eth0 hw", "fd00:1::11/64 eth1 hw pending"}, v4: "10.0.0.11"},
		{name: "an address: itself about to come", want: "fd00:1::11", host: []string{"10.0.0.11/24 eth0 hw", "fd00:1::11/64 eth0 hw pending"}, pending: true},
		{name: "an address: as written, though deprecated", want: "10.0.0.100", host: []string{"10.0.0.100/32 eth0 hw deprecated", "fd00:1::11/64 eth0 hw"}, v4: "10.0.0.100", v6: "fd00:1::11"},
		{name: "an address: as written, of a bridge", want: "172.17.0.1", host: with("172.17.0.1/16 docker0 bridge"), v4: "172.17.0.1"},
		{name: "an address: another machine has it", want: "fd00:1::11", host: []string{"fd00:1::11/64 eth0 hw dadfailed"}},
		{name: "an address: not this node's", want: "10.0.0.12", host: usual},
		{name: "a network: hardware before a bridge", want: "10.0.0.0/8", host: with("10.88.0.1/16 cni0 bridge"), v4: "10.0.0.11", v6: "fd00:1::11"},
		{name: "a network: a loopback address when it alone matches", want: "10.255.0.0/16", host: with("10.255.0.11/32 lo loopback"), v4: "10.255.0.11"},
		{name: "a network of one address is that address", want: "fd00:1::100/128", host: []string{"fd00:1::100/128 eth0 hw deprecated", "10.0.0.11/24 eth0 hw"}, v4: "10.0.0.11", v6: "fd00:1::100"},
		{name: "a network: IPv6 named, IPv4 of the same device", want: "fd00:1::/64", host: with("10.7.0.1/24 eth1 hw"), v4: "10.0.0.11", v6: "fd00:1::11"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := parse(t, "node: {name: a, address: '"+c.want+"'}\npools: [{name: p, cidr: 198.18.0.0/16}]")
			var to []netip.Addr
			for _, s := range c.targets {
				to = append(to, netip.MustParseAddr(s))
			}
			h := hostView{addrs: host(t, c.host...), source: ways(c.ways, false), match: ways(c.ways, true)}
			got, err := h.choose(cfg.Node.Address, to)
			text := func(a netip.Addr) string {
				if a.IsValid() {
					return a.String()
				}
				return ""
			}
			if text(got.v4) != c.v4 || text(got.v6) != c.v6 || got.pending != c.pending {
				t.Errorf("got %q and %q, pending %t; want %q and %q, pending %t", text(got.v4), text(got.v6), got.pending, c.v4, c.v6, c.pending)
			}
			if none := c.v4 == "" && c.v6 == ""; none != errors.Is(err, errNoAddress) || none && !strings.HasPrefix(err.Error(), "node.address: ") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// parse returns the configuration of a file's text.
func parse(t *testing.T, yaml string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("test.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestTargets: who says most about the node's address comes first.
func TestTargets(t *testing.T) {
	cfg := parse(t, `
node: {name: a, address: auto}
bgp:
  asn: 64512
  peers:
    - {name: tor, address: 10.0.0.1, asn: 65001}
    - {name: cable, interface: eth1, asn: 65001}
    - {name: local, address: fe80::1%eth0, asn: 65001}
    - {name: rr, address: 10.0.1.10}
  reflector: {clients: [10.0.2.0/24, 10.0.3.7/32]}
pools: [{name: p, cidr: 198.18.0.0/16}]
ipam: {registry: {kind: grpc, address: "10.0.4.1:4790", insecure: true}}
`)
	var got []string
	for _, a := range Targets(cfg) {
		got = append(got, a.String())
	}
	if want := "10.0.1.10 10.0.0.1 10.0.4.1 10.0.2.1 10.0.3.7 192.0.2.1 2001:db8::1"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}
