package policy

import (
	"net/netip"
	"slices"
	"testing"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestPrefixRule(t *testing.T) {
	tests := []struct {
		name   string
		rule   PrefixRule
		prefix string
		want   bool
	}{
		{"itself", PrefixRule{Prefix: prefix("10.0.0.0/8")}, "10.0.0.0/8", true},
		{"inside", PrefixRule{Prefix: prefix("10.0.0.0/8")}, "10.1.2.3/32", true},
		{"outside", PrefixRule{Prefix: prefix("10.0.0.0/8")}, "11.0.0.0/8", false},
		{"shorter", PrefixRule{Prefix: prefix("10.0.0.0/8")}, "0.0.0.0/0", false},
		{"ge", PrefixRule{Prefix: prefix("10.0.0.0/8"), Ge: 24}, "10.1.0.0/16", false},
		{"ge alone means up to 32", PrefixRule{Prefix: prefix("10.0.0.0/8"), Ge: 24}, "10.1.0.0/26", true},
		{"le", PrefixRule{Prefix: prefix("10.0.0.0/8"), Le: 16}, "10.1.0.0/24", false},
		{"default alone", PrefixRule{Prefix: prefix("0.0.0.0/0")}, "0.0.0.0/0", true},
		{"default does not mean everything", PrefixRule{Prefix: prefix("0.0.0.0/0")}, "10.0.0.0/8", false},
		{"everything but the default", PrefixRule{Prefix: prefix("0.0.0.0/0"), Ge: 1}, "0.0.0.0/0", false},
		{"everything", PrefixRule{Prefix: prefix("0.0.0.0/0"), Ge: 1}, "10.0.0.0/8", true},
		{"filled in", PrefixRule{Prefix: prefix("10.0.0.0/8"), Ge: 16, Le: 24}, "10.1.2.0/24", true},
		{"filled in, shorter", PrefixRule{Prefix: prefix("10.0.0.0/8"), Ge: 16, Le: 24}, "10.0.0.0/8", false},
		{"filled in, longer", PrefixRule{Prefix: prefix("10.0.0.0/8"), Ge: 16, Le: 24}, "10.1.2.0/25", false},
		{"filled in, another family", PrefixRule{Prefix: prefix("10.0.0.0/8"), Ge: 8, Le: 32}, "fd00::/8", false},
		{"everything and the default", PrefixRule{Prefix: prefix("0.0.0.0/0"), Le: 32}, "0.0.0.0/0", true},
		{"family", PrefixRule{Prefix: prefix("::/0"), Ge: 1}, "10.0.0.0/8", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.rule.Matches(prefix(tt.prefix)); got != tt.want {
				t.Errorf("%+v matches %s: %t, want %t", tt.rule, tt.prefix, got, tt.want)
			}
		})
	}
}

// TestFlatten: the entries of the longest prefix around a route give the result of
// all rules, for every route around the rules' edges.
func TestFlatten(t *testing.T) {
	rules := []PrefixRule{
		{Prefix: prefix("10.1.0.0/16"), Ge: 20, Le: 24},
		{Prefix: prefix("0.0.0.0/0")},
		{Prefix: prefix("10.0.0.0/8"), Ge: 9, Le: 22},
		{Prefix: prefix("10.2.0.0/16")},
		{Prefix: prefix("10.1.0.0/16"), Ge: 30},
		{Prefix: prefix("10.1.1.0/24"), Ge: 26, Le: 27},
		{Prefix: prefix("11.0.0.0/8"), Ge: 8, Le: 8},
		{Prefix: prefix("10.1.1.0/24"), Ge: 26, Le: 27},
	}
	flat := Flatten(rules)
	asked := func(p netip.Prefix) bool {
		longest := -1
		for _, f := range flat {
			if contains(f.Prefix, p) {
				longest = max(longest, f.Prefix.Bits())
			}
		}
		return slices.ContainsFunc(flat, func(f PrefixRule) bool {
			return f.Prefix.Bits() == longest && contains(f.Prefix, p) && f.Ge <= p.Bits() && p.Bits() <= f.Le
		})
	}
	matched := 0
	for _, a := range []string{"0.0.0.0", "10.0.0.0", "10.1.0.0", "10.1.1.0", "10.1.1.128", "10.1.2.0", "10.2.0.0", "10.3.0.0", "11.0.0.0", "12.0.0.0"} {
		for bits := range 33 {
			p := netip.PrefixFrom(netip.MustParseAddr(a), bits).Masked()
			want := slices.ContainsFunc(rules, func(r PrefixRule) bool { return r.Matches(p) })
			if got := asked(p); got != want {
				t.Errorf("%s: matched %t, want %t", p, got, want)
			}
			if want {
				matched++
			}
		}
	}
	if matched < 50 {
		t.Errorf("only %d routes matched: the test shows little", matched)
	}
}
