package rooms

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"onlink/agent/config"
	"onlink/agent/node"
	"onlink/bgp"
	"onlink/bgp/bfd"
	"onlink/bgp/policy"
	"onlink/internal/ours"
	"onlink/ipam"
	"onlink/rib"
	"onlink/tunnel"
)

func parse(t *testing.T, yaml string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("test.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

var comparePrefix = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

// TestPermitted holds a wide import rule to what its writer meant: the world
// behind the ToR, not the node's own networks.
func TestPermitted(t *testing.T) {
	subnets := prefixes("10.57.1.0/24")
	for _, c := range []struct {
		name   string
		accept string
		want   rib.Permit
	}{
		{"wide rule", "[10.0.0.0/8]", rib.Permit{}},
		{"the node's subnet by name", "[10.57.1.0/24]", rib.Permit{Prefixes: prefixes("10.57.1.0/24")}},
		{"a part of it", "[10.57.1.128/25]", rib.Permit{Prefixes: prefixes("10.57.1.128/25")}},
		{"default route", "[{prefix: 0.0.0.0/0, ge: 0, le: 0}]", rib.Permit{Default: true}},
		{"a pool by name", "[10.244.0.0/16]", rib.Permit{PoolPeers: []netip.Addr{netip.MustParseAddr("10.57.1.1")}}},
		{"a part of a pool", "[10.0.0.0/8, 10.244.128.0/20]", rib.Permit{PoolPeers: []netip.Addr{netip.MustParseAddr("10.57.1.1")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := parse(t, "bgp: {peers: [{name: tor, address: 10.57.1.1, asn: 65001, import: {accept: "+c.accept+"}}]}")
			got := Permit(cfg.BGP.Peers, prefixes("10.244.0.0/16"), subnets)
			if got.Default != c.want.Default {
				t.Errorf("Default = %v, want %v", got.Default, c.want.Default)
			}
			if d := cmp.Diff(c.want.Prefixes, got.Prefixes, comparePrefix); d != "" {
				t.Errorf("Prefixes (-want +got):\n%s", d)
			}
			if !slices.Equal(got.PoolPeers, c.want.PoolPeers) {
				t.Errorf("PoolPeers = %v, want %v", got.PoolPeers, c.want.PoolPeers)
			}
			if d := cmp.Diff(subnets, got.NodeSubnets, comparePrefix); d != "" {
				t.Errorf("NodeSubnets (-want +got):\n%s", d)
			}
		})
	}
}

func TestTunnelsWanted(t *testing.T) {
	id := node.Identity{Address: netip.MustParseAddr("10.57.1.11"), Address6: netip.MustParseAddr("fd57::11")}
	for _, c := range []struct {
		name, yaml string
		want       []string
	}{
		{"default", "", []string{ours.DeviceIPIP, ours.DeviceIP6}},
		{"none", "pools: [{name: a, cidr: 10.1.0.0/16, tunnel: none}]", nil},
		{"vxlan", "pools: [{name: a, cidr: 10.1.0.0/16, tunnel: vxlan}]", []string{ours.DeviceVXLAN, ours.DeviceVXLAN6}},
		{
			"a pool of each", "pools: [{name: a, cidr: 10.1.0.0/16}, {name: b, cidr: 10.2.0.0/16, tunnel: vxlan}]",
			[]string{ours.DeviceIPIP, ours.DeviceIP6, ours.DeviceVXLAN, ours.DeviceVXLAN6},
		},
		{"never", "pools: [{name: a, cidr: 10.1.0.0/16, encapsulation: Never}]", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, d := range Tunnels(parse(t, c.yaml), id) {
				got = append(got, d.Name)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestPassword(t *testing.T) {
	for _, c := range []struct{ name, text, want, err string }{
		{"one line", "s3cret\n", "s3cret", ""},
		{"carriage return", "s3cret\r\nmore", "s3cret", ""},
		{"empty", "\n", "", "1 to 80 bytes"},
		{"too long", strings.Repeat("x", 81), "", "it has 81"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := Password(path)
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("password = %q, %v; want %q, error with %q", got, err, c.want, c.err)
			}
		})
	}
	if _, err := Password("/nonexistent/key"); err == nil {
		t.Error("a missing file is no error")
	}
}

// TestRouters: of the peers only those that forward plainly are no nodes.
func TestRouters(t *testing.T) {
	cfg, err := config.Resolve(parse(t, `
bgp:
  asn: 64512
  peers:
    - {name: tor, address: 10.57.0.1, asn: 65001, import: {accept: [10.244.0.0/16]}}
    - {name: far, address: 10.59.0.11, asn: 65002, multihop: 2, import: {accept: [10.244.0.0/16]}}
    - {name: rr, address: 10.57.0.10, asn: 64512}
`), config.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	if got := Routers(cfg); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("10.57.0.1")}) {
		t.Errorf("routers %v, want the ToR alone", got)
	}
}

// effective is what a file means on the node 10.57.0.11 of AS 64512.
func effective(t *testing.T, yaml string) *config.Effective {
	t.Helper()
	c, err := config.Resolve(parse(t, yaml), config.Facts{Addresses: []netip.Addr{netip.MustParseAddr("10.57.0.11")}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const pools = `
pools:
  - {name: a, cidr: 10.1.0.0/16, blockSize: 25, encapsulation: Always, tunnel: vxlan, nodeSelector: {rack: r1}, namespaceSelector: [prod]}
  - {name: b, cidr: 10.2.0.0/16, disabled: true, reserved: [10.2.0.0/24], natOutgoing: false}
  - {name: c, cidr: "fd00:1::/64", manual: true, encapsulation: Never, tunnel: none, natOutgoing: true}
`

// TestPools: one list of pools in the words of four rooms.
func TestPools(t *testing.T) {
	list := parse(t, pools).Pools
	p := prefixes("10.1.0.0/16", "10.2.0.0/16", "fd00:1::/64")

	for label, elsewhere := range map[string]bool{"r1": false, "r2": true} {
		want := []ipam.Pool{
			{Name: "a", CIDR: p[0], BlockSize: 25, Elsewhere: elsewhere, Namespaces: []string{"prod"}},
			{Name: "b", CIDR: p[1], BlockSize: 26, Disabled: true, Reserved: prefixes("10.2.0.0/24")},
			{Name: "c", CIDR: p[2], BlockSize: 122, Manual: true},
		}
		if d := cmp.Diff(want, IPAM(list, map[string]string{"rack": label}), comparePrefix); d != "" {
			t.Errorf("ipam, in rack %s (-want +got):\n%s", label, d)
		}
	}

	// The node has an IPv4 address only, and so no tunnel of IPv6.
	wanted := []tunnel.Desired{{Name: ours.DeviceIPIP}, {Name: ours.DeviceVXLAN}}
	want := []rib.Pool{
		{Prefix: p[0], Encap: rib.Always, Tunnel: ours.DeviceVXLAN},
		{Prefix: p[1], Encap: rib.CrossSubnet, Tunnel: ours.DeviceIPIP},
		{Prefix: p[2], Encap: rib.Never},
	}
	if d := cmp.Diff(want, RIB(list, wanted), comparePrefix); d != "" {
		t.Errorf("rib (-want +got):\n%s", d)
	}

	all, nat := Ranges(list)
	if !slices.Equal(all, p) || !slices.Equal(nat, prefixes("10.1.0.0/16", "fd00:1::/64")) {
		t.Errorf("nft: all %v, masqueraded %v", all, nat)
	}
	if got := BGPPools(list); !slices.Equal(got, []policy.Pool{{Prefix: p[0], Block: 25}, {Prefix: p[1], Block: 26}, {Prefix: p[2], Block: 122}}) {
		t.Errorf("bgp: %v", got)
	}
}

// TestFilter: the guard is for tunnels, and packets to the registry are refused
// where its addresses are known.
func TestFilter(t *testing.T) {
	ipip, vxlan := tunnel.Desired{Kind: tunnel.IPIP}, tunnel.Desired{Kind: tunnel.VXLAN}
	for _, c := range []struct {
		name, yaml string
		tunnels    []tunnel.Desired
		guard      bool
		port       uint16
		registry   []netip.AddrPort
	}{
		{"default", "", []tunnel.Desired{ipip}, true, 0, []netip.AddrPort{{}}},
		{"no tunnel", "", nil, false, 0, []netip.AddrPort{{}}},
		{"off", "tunnel: {guard: off}", []tunnel.Desired{ipip}, false, 0, []netip.AddrPort{{}}},
		{"required, VXLAN", "tunnel: {guard: required, vxlan: {port: 8472}}", []tunnel.Desired{ipip, vxlan}, true, 8472, []netip.AddrPort{{}}},
		{
			"registry", "ipam: {registry: {kind: grpc, insecure: true, address: ['10.57.0.10:4790', 'rr:4790']}}", nil, false, 0,
			[]netip.AddrPort{{}, netip.MustParseAddrPort("10.57.0.10:4790")},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Filter(parse(t, c.yaml), c.tunnels)
			if got.Guard != c.guard || got.VXLANPort != c.port || !slices.Equal(got.Registry, c.registry) {
				t.Errorf("guard %v, port %d, registry %v", got.Guard, got.VXLANPort, got.Registry)
			}
			if len(got.Pools) != 1 || !slices.Equal(got.MasqueradeFrom, got.Pools) {
				t.Errorf("pools %v, masqueraded %v", got.Pools, got.MasqueradeFrom)
			}
		})
	}
}

// TestBGP: what the speaker is, and who reflects under which cluster.
func TestBGP(t *testing.T) {
	addr := netip.MustParseAddr
	id := node.Identity{Address: addr("10.57.0.11"), Address6: addr("fd57::11"), RouterID: addr("10.57.0.11")}
	for _, c := range []struct {
		name, yaml string
		cluster    netip.Addr
		listen     []netip.Addr
		port       uint16
	}{
		{"node", "", netip.Addr{}, nil, 179},
		{"listens nowhere", "bgp: {listen: {port: 0}}", netip.Addr{}, nil, 0},
		{"on one address", "bgp: {listen: {address: 10.57.0.11}}", netip.Addr{}, []netip.Addr{addr("10.57.0.11")}, 179},
		{"reflector", "bgp: {reflector: {}}", id.RouterID, nil, 179},
		{"one of a cluster", "bgp: {reflector: {clusterID: 0.0.0.7}}", addr("0.0.0.7"), nil, 179},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := BGP(effective(t, c.yaml), id, true, nil)
			if got.ASN != 64512 || got.RouterID != id.RouterID || got.NodeAddress != id.Address || got.NodeAddress6 != id.Address6 || !got.Restarting {
				t.Errorf("identity %+v", got)
			}
			if got.ClusterID != c.cluster || !slices.Equal(got.ListenAddresses, c.listen) || got.ListenPort != c.port {
				t.Errorf("cluster %v, listens on %v port %d", got.ClusterID, got.ListenAddresses, got.ListenPort)
			}
			if len(got.Pools) != 1 || len(got.PodGateways) == 0 {
				t.Errorf("pools %v, gateways of pods %v", got.Pools, got.PodGateways)
			}
		})
	}
}

// TestPeers: every option of a peer reaches its session, and the role is what
// the AS and the reflector make of it.
func TestPeers(t *testing.T) {
	addr := netip.MustParseAddr
	dir := t.TempDir()
	for name, text := range map[string]string{"tor": "tor-key\n", "clients": "client-key\n", "empty": "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	yaml := strings.ReplaceAll(`
bgp:
  reflector: {clients: [10.57.0.0/16, 10.58.0.0/16], passwordFile: DIR/clients}
  peers:
    - {name: tor, address: 10.57.0.1, port: 1790, asn: 65001, passwordFile: DIR/tor, ttlSecurity: 1, holdTime: 9s, keepalive: 3s, connectRetry: 2s,
       passive: true, localAddress: 10.57.0.11, localASN: 65100, allowOwnAS: 2, longLivedRestart: 1h, interface: eth0, export: {med: 7}}
    - {name: far, address: 10.99.0.1, asn: 65002, multihop: 3}
    - {name: node, address: 10.57.0.77, client: true}
    - {name: rr, address: 10.57.0.10}
    - {name: leaf, interface: eth1, asn: 65003}
`, "DIR", dir)
	cfg := effective(t, yaml)
	peers, dynamic, err := Peers(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var roles []string
	for _, p := range peers {
		roles = append(roles, p.Name+" "+p.Role.String())
	}
	if want := []string{"tor ebgp", "far ebgp", "node client", "rr ibgp"}; !slices.Equal(roles, want) { // leaf is not found yet
		t.Fatalf("roles %q, want %q", roles, want)
	}
	tor := peers[0]
	if tor.Address != addr("10.57.0.1") || tor.Port != 1790 || !tor.Passive || tor.Yield || tor.Interface != "eth0" || tor.Password != "tor-key" || tor.ASN != 65001 {
		t.Errorf("tor is %+v", tor)
	}
	if tor.TTLSecurity != 1 || tor.HoldTime != 9*time.Second || tor.Keepalive != 3*time.Second || tor.ConnectRetry != 2*time.Second ||
		tor.LocalAddress != addr("10.57.0.11") || tor.LocalAS != 65100 || tor.AllowOwnAS != 2 || tor.LongLived != time.Hour || tor.Export.MED != 7 {
		t.Errorf("options of tor: %+v", tor.Session)
	}
	if peers[1].Multihop != 3 || peers[1].HoldTime != 90*time.Second || peers[1].Password != "" {
		t.Errorf("options of far: %+v", peers[1].Session)
	}
	if len(dynamic) != 2 || dynamic[1].Name != "clients 10.58.0.0/16" || dynamic[1].Role != bgp.Client || dynamic[1].ASN != 64512 || dynamic[1].Password != "client-key" {
		t.Errorf("clients: %+v", dynamic)
	}

	found := cfg.WithRouters(map[string]netip.Addr{"eth1": addr("fe80::1%eth1")})
	if peers, _, err = Peers(found); err != nil || len(peers) != 5 || peers[4].Address != addr("fe80::1%eth1") || peers[4].Interface != "" {
		t.Errorf("the router is found: %v, %+v", err, peers)
	}

	for name, c := range map[string]struct{ yaml, want string }{
		"peer":    {"bgp: {peers: [{name: tor, address: 10.57.0.1, passwordFile: DIR/none}]}", "bgp.peers: passwordFile of tor: "},
		"clients": {"bgp: {reflector: {clients: [10.57.0.0/16], passwordFile: DIR/empty}}", "bgp.reflector.passwordFile: "},
	} {
		if _, _, err := Peers(effective(t, strings.ReplaceAll(c.yaml, "DIR", dir))); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestBFD: only peers that ask for it are watched, each at its end.
func TestBFD(t *testing.T) {
	cfg := parse(t, `
bgp:
  peers:
    - {name: tor, address: 10.57.0.1, asn: 65001, localAddress: 10.57.0.11, bfd: {interval: 50ms, multiplier: 5}}
    - {name: rr, address: 10.57.0.10, bfd: {}}
    - {name: other, address: 10.57.0.2, asn: 65001}
`)
	want := []bfd.Session{
		{Peer: netip.MustParseAddr("10.57.0.1"), Local: netip.MustParseAddr("10.57.0.11"), Interval: 50 * time.Millisecond, Multiplier: 5},
		{Peer: netip.MustParseAddr("10.57.0.10"), Multihop: true, Interval: 300 * time.Millisecond, Multiplier: 3},
	}
	if got := BFD(cfg.BGP.Peers); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestStore: a database that is not there was lost where the node has pods, or
// where the operator says so; only a registry that others use can lose blocks.
func TestStore(t *testing.T) {
	const served = "ipam: {registry: {listen: '10.57.0.11:4790', insecure: true}}\npaths: {run: /run/x}"
	for _, c := range []struct {
		name, yaml   string
		repair, pods bool
		want         ipam.StoreOptions
	}{
		{"first start", "", false, false, ipam.StoreOptions{}},
		{"pods run", "", false, true, ipam.StoreOptions{}},
		{"repair", "", true, false, ipam.StoreOptions{MoveAside: true}},
		{"served, first start", served, false, false, ipam.StoreOptions{Marker: "/run/x/registry.epoch"}},
		{"served, pods run", served, false, true, ipam.StoreOptions{Marker: "/run/x/registry.epoch", Lost: true}},
		{"served, repair", served, true, false, ipam.StoreOptions{Marker: "/run/x/registry.epoch", Lost: true, MoveAside: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Store(parse(t, c.yaml), c.repair, c.pods)
			if got.Marker != c.want.Marker || got.Lost != c.want.Lost || got.MoveAside != c.want.MoveAside {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
