package agent

import (
	"net/netip"
	"testing"
)

// TestCompleteIdentity: the other family's address comes from the device that
// has the chosen one, and never from another.
func TestCompleteIdentity(t *testing.T) {
	addr := netip.MustParseAddr
	addrs := []nodeAddr{
		{addr("fd00::1"), "docker0"},
		{addr("10.0.0.5"), "eth1"},
		{addr("10.57.1.11"), "eth0"},
		{addr("fd57:1::11"), "eth0"},
		{addr("fd57:1::12"), "eth0"},
	}
	for _, c := range []struct {
		name string
		id   identity
		want identity
	}{
		{"IPv6 beside IPv4", identity{Address: addr("10.57.1.11")}, identity{Address: addr("10.57.1.11"), Address6: addr("fd57:1::11")}},
		{"IPv4 beside IPv6", identity{Address6: addr("fd57:1::12")}, identity{Address: addr("10.57.1.11"), Address6: addr("fd57:1::12")}},
		{"none on that device", identity{Address: addr("10.0.0.5")}, identity{Address: addr("10.0.0.5")}},
		{"both are known", identity{Address: addr("10.0.0.5"), Address6: addr("fd00::1")}, identity{Address: addr("10.0.0.5"), Address6: addr("fd00::1")}},
		{"nothing chosen", identity{}, identity{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.id.complete(addrs)
			if c.id != c.want {
				t.Errorf("%+v, want %+v", c.id, c.want)
			}
		})
	}
}

// TestReaches: a block can be announced only where the node has a next hop.
func TestReaches(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("10.244.0.0/26"), netip.MustParsePrefix("fd00:244::/122")
	only4 := identity{Address: netip.MustParseAddr("10.57.1.11")}
	only6 := identity{Address6: netip.MustParseAddr("fd57::11")}
	for _, c := range []struct {
		id   identity
		p    netip.Prefix
		want bool
	}{{only4, v4, true}, {only4, v6, false}, {only6, v4, false}, {only6, v6, true}} {
		if got := c.id.reaches(c.p); got != c.want {
			t.Errorf("%+v reaches %s: %v, want %v", c.id, c.p, got, c.want)
		}
	}
}
