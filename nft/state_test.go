package nft

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var netipValues = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func pfx(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestNormal(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		in, want State
	}{
		{"nested and repeated prefixes", State{
			MasqueradeFrom: pfx("10.1.0.0/16", "10.0.0.0/8", "fd00::/8", "10.0.0.0/8"),
			Pools:          pfx("::ffff:10.2.0.0/112", "10.1.2.3/24"),
		}, State{
			MasqueradeFrom: pfx("10.0.0.0/8", "fd00::/8"),
			Pools:          pfx("10.1.2.0/24", "10.2.0.0/16"),
		}},
		{
			"nodes",
			State{Guard: true, Nodes: append(addrs("::ffff:10.0.0.2", "fd00::1", "10.0.0.1", "10.0.0.2"), netip.Addr{})},
			State{Guard: true, Nodes: addrs("10.0.0.1", "10.0.0.2", "fd00::1"), MasqueradeFrom: pfx(), Pools: pfx()},
		},
		{"nodes without a guard do not count", State{Nodes: addrs("10.0.0.1"), VXLANPort: 4789}, State{}},
		{"invalid prefixes", State{Pools: []netip.Prefix{{}}}, State{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, tt.in.normal(), netipValues, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestIntervals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		in   []netip.Prefix
		v4   bool
		want []string
	}{
		{"one", pfx("10.0.0.0/8"), true, []string{"10.0.0.0-10.255.255.255"}},
		{"neighbours are joined", pfx("10.0.0.0/9", "10.128.0.0/9", "11.1.0.0/16"), true, []string{"10.0.0.0-10.255.255.255", "11.1.0.0-11.1.255.255"}},
		{"other family", pfx("10.0.0.0/8", "fd00::/64"), false, []string{"fd00::-fd00::ffff:ffff:ffff:ffff"}},
		{"everything", pfx("0.0.0.0/0"), true, []string{"0.0.0.0-255.255.255.255"}},
		{"one address", pfx("10.0.0.1/32"), true, []string{"10.0.0.1-10.0.0.1"}},
		{"none", nil, true, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, r := range intervals(disjoint(tt.in), tt.v4) {
				got = append(got, r.first.String()+"-"+r.last.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
