package bgp

import (
	"fmt"
	"net/netip"

	"onlink/bgp/gobgp"
)

// Family is an address family carried by a session (RFC 4760).
type Family uint8

// The families that onlink supports, with the engine's numbers.
const (
	IPv4 = Family(gobgp.IPv4) // IPv4 unicast
	IPv6 = Family(gobgp.IPv6) // IPv6 unicast
)

// String returns the family's name.
func (f Family) String() string {
	switch f {
	case IPv4:
		return "ipv4"
	case IPv6:
		return "ipv6"
	}
	return fmt.Sprintf("Family(%d)", uint8(f))
}

// familyOf returns the family of an address.
func familyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}
