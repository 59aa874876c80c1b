package rib

import (
	"net/netip"
	"slices"
)

// martians are the addresses that no route may lead to: "this network" and
// loopback (RFC 1122 section 3.2.1.3), link-local ones (RFC 3927; the gateway
// of pods among them), multicast and the reserved ones above it (RFC 1112), and
// IPv6's own (RFC 4291 section 2.5). No two of them make a larger prefix, so a
// prefix of martians alone lies inside one.
var martians = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/3"),                                 // 224.0.0.0/4 and 240.0.0.0/4
	netip.MustParsePrefix("::/127"),                                      // :: and ::1
	netip.PrefixFrom(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}), 96), // IPv4-mapped
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

// Martian reports whether every address of prefix is one that no route may
// lead to. Such a prefix is never installed, whatever a rule accepts: the kernel
// would send the packets of pods for the node's own services, for multicast or for
// their gateway to the peer that announced it. A default route is none.
func Martian(prefix netip.Prefix) bool {
	if a := prefix.Addr(); a.Is4() {
		// It is called for every route, so the first byte decides most.
		switch first := a.As4()[0]; {
		case first == 0, first == 127, first == 169, first >= 224:
		default:
			return false
		}
	}
	return inside(martians, prefix)
}

// martianAddr reports whether addr cannot be a next hop. A link-local address
// with its device can: a peer may have no other address (RFC 8950).
func martianAddr(addr netip.Addr) bool {
	return addr.Zone() == "" && slices.ContainsFunc(martians, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// isEdge reports whether addr is the first or last address of an IPv4 network,
// which mean the network itself and all its hosts (RFC 1122 section 3.2.1.3).
// A network of two addresses has none (RFC 3021), nor has the zero Prefix.
func isEdge(network netip.Prefix, addr netip.Addr) bool {
	host := 32 - network.Bits()
	if !addr.Is4() || !network.IsValid() || host < 2 {
		return false
	}
	a := addr.As4()
	low := (uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])) << network.Bits() >> network.Bits()
	return low == 0 || low == 1<<host-1
}

// CoversMartian reports whether prefix is larger than a range that no route may
// lead to, and has it. A default route is and has.
func CoversMartian(prefix netip.Prefix) bool {
	return slices.ContainsFunc(martians, func(m netip.Prefix) bool { return m.Bits() > prefix.Bits() && prefix.Contains(m.Addr()) })
}
