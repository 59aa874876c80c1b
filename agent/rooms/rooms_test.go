package rooms

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"onlink/agent/config"
	"onlink/agent/node"
	"onlink/internal/ours"
	"onlink/rib"
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
