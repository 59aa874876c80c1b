package bench

import (
	"encoding/binary"
	"net/netip"

	"onlink/rib"
)

// blockBits is the prefix length of all routes: a block of 64 pods.
const blockBits = 26

// fedNet holds every prefix that is fed to a receiver.
var fedNet = netip.MustParsePrefix("16.0.0.0/8")

// block returns the i-th prefix inside fedNet.
func block(i int) netip.Prefix {
	return netip.PrefixFrom(offset(fedNet.Addr(), i<<(32-blockBits)), blockBits)
}

// gateway returns the i-th next hop, on the wire of a pair.
func gateway(i int) netip.Addr { return offset(netip.MustParseAddr("10.200.1.0"), i) }

func offset(a netip.Addr, n int) netip.Addr {
	b := a.As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n)) //nolint:gosec // within IPv4
	return netip.AddrFrom4(b)
}

// decided makes n routes over a number of next hops, as rib decides them.
func decided(n, hops int) []rib.Route {
	routes := make([]rib.Route, n)
	for i := range routes {
		routes[i] = rib.Route{
			Prefix: block(i), Kind: rib.Unicast,
			Hops: rib.MakeHops(rib.Hop{Via: gateway(i % hops), Dev: "up0", Onlink: true}),
		}
	}
	return routes
}
