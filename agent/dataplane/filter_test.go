package dataplane

import (
	"net/netip"
	"slices"
	"testing"

	"onlink/fib"
)

// TestKeep: after a restart the guard is open for the nodes of the routes that
// the kernel still holds, and for nobody else who is a gateway there.
func TestKeep(t *testing.T) {
	via := func(prefix string, hops ...string) fib.KernelRoute {
		r := fib.KernelRoute{Prefix: netip.MustParsePrefix(prefix)}
		for _, h := range hops {
			r.Hops = append(r.Hops, fib.KernelHop{Via: netip.MustParseAddr(h)})
		}
		return r
	}
	f := &Filter{}
	f.state.Pools = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd44::/48")}
	f.Keep([]fib.KernelRoute{
		via("10.244.1.0/26", "10.57.0.12"),
		via("10.244.2.0/26", "10.57.0.10", "10.57.0.1"), // a node that is a peer; the ToR
		via("10.244.3.0/26", "10.59.0.11"),              // a node of another AS
		via("10.244.4.5/32"),                            // a pod
		via("10.244.5.0/26", "fe80::1"),
		via("fd44::100/122", "fd57::12"),
		via("172.20.0.0/16", "10.57.0.99"), // outside the pools
		via("10.96.0.10/32", "10.244.4.5"), // a service of a pod
		via("10.244.6.0/26", "10.244.4.5"),
	}, []netip.Addr{netip.MustParseAddr("10.57.0.1")}) // the ToR
	want := []netip.Addr{
		netip.MustParseAddr("10.57.0.12"), netip.MustParseAddr("10.57.0.10"), netip.MustParseAddr("10.59.0.11"), netip.MustParseAddr("fd57::12"),
	}
	if !slices.Equal(f.kept, want) {
		t.Errorf("kept %v, want %v", f.kept, want)
	}
}
