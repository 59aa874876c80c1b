package gobgp

import (
	"net/netip"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// This file translates single values between our form and the engine's.

// Family is an address family carried by a session (RFC 4760).
type Family uint8

// The families that are carried.
const (
	IPv4 Family = iota + 1 // IPv4 unicast
	IPv6                   // IPv6 unicast
)

func apiFamily(f Family) *api.Family {
	if f == IPv6 {
		return &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
	}
	return &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
}

// familyOf returns our name of an engine's family, 0 for one that is not carried.
func familyOf(f bgp.RouteFamily) Family {
	switch f {
	case bgp.RF_IPv4_UC:
		return IPv4
	case bgp.RF_IPv6_UC:
		return IPv6
	default:
		return 0
	}
}

// The states of a session that other packages compare, as RFC 4271 section 8.2.2
// names them. In the last one routes are exchanged.
const (
	Idle        = "Idle"
	OpenConfirm = "OpenConfirm"
	Established = "Established"
)

// stateName returns the name of a state in RFC 4271 section 8.2.2.
func stateName(s api.PeerState_SessionState) string {
	switch s {
	case api.PeerState_CONNECT:
		return "Connect"
	case api.PeerState_ACTIVE:
		return "Active"
	case api.PeerState_OPENSENT:
		return "OpenSent"
	case api.PeerState_OPENCONFIRM:
		return OpenConfirm
	case api.PeerState_ESTABLISHED:
		return Established
	default:
		return Idle
	}
}

// machineState is stateName for the state machine, which counts from Idle.
func machineState(s bgp.FSMState) string {
	return stateName(api.PeerState_IDLE + api.PeerState_SessionState(s))
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func seconds(d time.Duration) uint64 { return uint64(d / time.Second) }

// nlriOf is the engine's form of a prefix.
func nlriOf(p netip.Prefix) bgp.AddrPrefixInterface {
	if p.Addr().Is4() {
		return bgp.NewIPAddrPrefix(uint8(p.Bits()), p.Addr().String())
	}
	return bgp.NewIPv6AddrPrefix(uint8(p.Bits()), p.Addr().String())
}

// prefixOf returns the prefix of a unicast NLRI.
func prefixOf(n bgp.AddrPrefixInterface) (netip.Prefix, bool) {
	var ip *bgp.IPAddrPrefixDefault
	switch n := n.(type) {
	case *bgp.IPAddrPrefix:
		ip = &n.IPAddrPrefixDefault
	case *bgp.IPv6AddrPrefix:
		ip = &n.IPAddrPrefixDefault
	default:
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(ip.Prefix)
	if !ok {
		return netip.Prefix{}, false
	}
	if _, v4 := n.(*bgp.IPAddrPrefix); v4 {
		addr = addr.Unmap()
	}
	p, err := addr.Prefix(int(ip.Length))
	return p, err == nil
}
