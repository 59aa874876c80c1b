package node

import (
	"net/netip"
	"testing"
)

// TestReaches: a block can be announced only where the node has a next hop.
func TestReaches(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("10.244.0.0/26"), netip.MustParsePrefix("fd00:244::/122")
	only4 := Identity{Address: netip.MustParseAddr("10.57.1.11")}
	only6 := Identity{Address6: netip.MustParseAddr("fd57::11")}
	for _, c := range []struct {
		id   Identity
		p    netip.Prefix
		want bool
	}{{only4, v4, true}, {only4, v6, false}, {only6, v4, false}, {only6, v6, true}} {
		if got := c.id.Reaches(c.p); got != c.want {
			t.Errorf("%+v reaches %s: %v, want %v", c.id, c.p, got, c.want)
		}
	}
}
