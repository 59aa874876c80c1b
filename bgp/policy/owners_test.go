package policy

import (
	"maps"
	"net/netip"
	"testing"
)

// TestOwnerOfEither: the next hop of either family identifies the owner, a path of
// a family in which the owner has no address is admitted, and a prefix that
// overlaps blocks of another node belongs to that node too.
func TestOwnerOfEither(t *testing.T) {
	one := func(list ...string) (out []netip.Addr) {
		for _, a := range list {
			out = append(out, addr(a))
		}
		return out
	}
	o := NewOwners([]Block{
		{Prefix: prefix("10.244.1.0/26"), Node: "a", Addresses: one("10.57.0.1", "fd57::1")},
		{Prefix: prefix("10.244.1.64/26"), Node: "a", Addresses: one("10.57.0.1", "fd57::1")},
		{Prefix: prefix("10.244.4.0/24"), Node: "b", Addresses: one("10.57.0.2")},
		{Prefix: prefix("fd00:244::40/122"), Node: "c", Addresses: one("fd57::3")},
	})
	for _, tt := range []struct{ prefix, hop, block string }{
		{"10.244.1.0/26", "10.57.0.1", ""},
		{"10.244.1.0/26", "fd57::1", ""},
		{"10.244.1.0/26", "10.57.0.2", "10.244.1.0/26"},
		{"10.244.1.0/26", "fd57::2", "10.244.1.0/26"},
		{"10.244.1.0/25", "10.57.0.1", ""},              // both halves are its own
		{"10.244.1.0/25", "10.57.0.2", "10.244.1.0/26"}, // around both
		{"10.244.0.0/16", "10.57.0.1", "10.244.4.0/24"},
		{"10.244.4.64/26", "10.57.0.2", ""},
		{"10.244.4.64/26", "10.57.0.1", "10.244.4.0/24"}, // of a larger block
		{"10.244.4.0/24", "fd57::9", ""},                 // b's IPv6 address is not known
		{"10.244.2.0/26", "10.57.0.9", ""},
		{"fd00:244::40/122", "fd57::3", ""},
		{"fd00:244::40/122", "fd57::1", "fd00:244::40/122"},
		{"fd00:244::/64", "fd57::1", "fd00:244::40/122"},
		{"fd00:244::80/122", "fd57::1", ""},
	} {
		got := ""
		if b := o.Against(prefix(tt.prefix), addr(tt.hop)); b != nil {
			got = b.Prefix.String()
		}
		if got != tt.block {
			t.Errorf("%s with next hop %s: against the owner of %q, want %q", tt.prefix, tt.hop, got, tt.block)
		}
	}
	next := NewOwners([]Block{
		{Prefix: prefix("10.244.1.0/26"), Node: "a", Addresses: one("10.57.0.1", "fd57::1")},
		{Prefix: prefix("10.244.1.64/26"), Node: "b", Addresses: one("10.57.0.2")},
		{Prefix: prefix("10.244.4.0/24"), Node: "b", Addresses: one("10.57.0.2")},
		{Prefix: prefix("10.244.9.0/26"), Node: "b", Addresses: one("10.57.0.2")},
	})
	changed := NewOverlaps(maps.Keys(o.Changed(next)))
	for p, want := range map[string]bool{
		"10.244.1.0/26": false, "10.244.1.64/26": true, "10.244.1.64/27": true, "10.244.1.0/25": true, "10.244.1.0/27": false,
		"10.244.4.0/24": false, "10.244.9.0/26": true, "fd00:244::40/122": true, "fd00:244::/64": true, "fd00:244::80/122": false,
	} {
		if got := changed.Touch(prefix(p)); got != want {
			t.Errorf("%s concerns a changed block: %t, want %t", p, got, want)
		}
	}
}
