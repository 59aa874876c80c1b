package rib

import (
	"net/netip"
	"testing"
)

// TestDropRoutesLeaveTheHost: no drop route of an own block or aggregate covers
// a network of the node, a gateway or a peer; it comes back when that is gone.
func TestDropRoutesLeaveTheHost(t *testing.T) {
	block, other, sum := netip.MustParsePrefix("10.244.1.0/26"), netip.MustParsePrefix("10.244.2.0/26"), netip.MustParsePrefix("10.244.0.0/20")
	for _, c := range []struct {
		name             string
		permit           Permit
		block, sum, rest Kind
	}{
		{"nothing of the host's", Permit{}, Blackhole, Blackhole, Blackhole},
		{"a network around the block", Permit{Host: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}}, Unresolved, Unresolved, Blackhole},
		{"a gateway in the block", Permit{Host: []netip.Prefix{netip.MustParsePrefix("10.244.1.1/32")}}, Unresolved, Unresolved, Blackhole},
		{"a peer in the block", Permit{Peers: []netip.Addr{netip.MustParseAddr("10.244.1.1")}}, Unresolved, Unresolved, Blackhole},
		{"a network elsewhere", Permit{Host: []netip.Prefix{netip.MustParsePrefix("10.57.0.0/16")}}, Blackhole, Blackhole, Blackhole},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := NewTable(nowhere{})
			got := map[netip.Prefix]Route{}
			drain := func() {
				table.DrainTo(func(ch Change) {
					if got[ch.Route.Prefix] = ch.Route; ch.Deleted {
						delete(got, ch.Route.Prefix)
					}
				})
			}
			want := func(p netip.Prefix, kind Kind) {
				t.Helper()
				installed, there := got[p]
				known, _ := table.Lookup(p.Addr())
				switch {
				case kind == Blackhole && installed.Kind != kind:
					t.Errorf("%s has no drop route: %+v", p, known)
				case kind == Unresolved && (there || known.Reason != ReasonHostNetwork):
					t.Errorf("%s is installed as %+v and known as %+v", p, installed, known)
				}
			}
			table.SetOwn([]netip.Prefix{block, other})
			table.SetAggregates([]netip.Prefix{sum})
			table.SetPermitted(c.permit)
			drain()
			want(block, c.block)
			want(sum, c.sum)
			want(other, c.rest)
			table.SetPermitted(Permit{})
			drain()
			want(block, Blackhole)
			want(sum, Blackhole)
		})
	}
}

// nowhere is an underlay without routes.
type nowhere struct{}

func (nowhere) Reach(netip.Addr) Reach { return Reach{} }
