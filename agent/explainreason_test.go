package agent

import (
	"net/netip"
	"strings"
	"testing"

	"onlink/rib"
)

// onLink is an underlay where every next hop is on eth0.
type onLink struct{}

// Reach implements rib.Resolver.
func (onLink) Reach(netip.Addr) rib.Reach {
	return rib.Reach{Kind: rib.OnLink, Hops: rib.MakeHops(rib.Hop{Dev: "eth0"})}
}

// TestExplainRefused: a route that is refused is named with the reason, and the
// route that takes its packets is what the address hangs on.
func TestExplainRefused(t *testing.T) {
	table := rib.NewTable(onLink{})
	table.SetPools([]rib.Pool{{Prefix: netip.MustParsePrefix("10.244.0.0/16")}})
	told := func(prefix, hop string) {
		table.Update(rib.Update{Prefix: netip.MustParsePrefix(prefix), Paths: []rib.Path{{NextHop: netip.MustParseAddr(hop)}}})
	}
	told("10.244.1.0/26", "10.57.0.12")
	told("10.244.1.5/32", "10.244.9.9")
	told("127.0.0.53/32", "10.57.0.12")
	for _, c := range []struct {
		addr, prefix, step string
		kind               rib.Kind
	}{
		{"10.244.1.4", "10.244.1.0/26", "", rib.Unicast},
		{"10.244.1.5", "10.244.1.0/26", "10.244.1.5/32 is known but has no usable next hop (next-hop-in-pool): the next hop is an address of a pool", rib.Unicast},
		{"127.0.0.53", "127.0.0.53/32", "", rib.Unresolved}, // nothing else takes it
	} {
		e := &explanation{addr: netip.MustParseAddr(c.addr)}
		route, _ := table.Lookup(e.addr)
		got := e.passRefused(route, table)
		if got.Prefix.String() != c.prefix || got.Kind != c.kind {
			t.Errorf("%s hangs on %s %s, want %s %s", c.addr, got.Prefix, got.Kind, c.prefix, c.kind)
		}
		step := ""
		if len(e.steps) > 0 {
			step = e.steps[0].GetDetail()
		}
		if !strings.HasPrefix(step, c.step) || c.step == "" && step != "" {
			t.Errorf("%s: step %q, want %q", c.addr, step, c.step)
		}
	}
	route, _ := table.Lookup(netip.MustParseAddr("127.0.0.53"))
	if got, want := unusable(route), "127.0.0.53/32 is known but is not installed (martian)"; !strings.HasPrefix(got, want) {
		t.Errorf("verdict %q, want %q", got, want)
	}
}
