package rib

import (
	"net/netip"
	"testing"
)

// TestLiveness: a dead next hop is unreachable until it is alive, and a copy has its own.
func TestLiveness(t *testing.T) {
	a, b := netip.MustParseAddr("10.57.1.11"), netip.MustParseAddr("10.57.1.12")
	way := Reach{Kind: OnLink, Hops: MakeHops(Hop{Dev: "eth0"})}
	l := NewLiveness(underlay{a: way, b: way})
	is := func(l *Liveness, addr netip.Addr, want ReachKind) {
		t.Helper()
		if got := l.Reach(addr); got.Kind != want || (want == OnLink) != (got == way) {
			t.Errorf("%s is %s, want %s", addr, got.Kind, want)
		}
	}
	is(l, a, OnLink)
	l.Set([]netip.Addr{a}, nil)
	is(l, a, Dead)
	is(l, b, OnLink)
	copied := l.Clone()
	l.Set([]netip.Addr{b}, []netip.Addr{a})
	is(l, a, OnLink)
	is(l, b, Dead)
	is(copied, a, Dead)
	is(copied, b, OnLink)
}
