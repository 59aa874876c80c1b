package bgp

import (
	"fmt"
	"net/netip"
)

// zones holds the devices of link-local peers: the addresses of peers and next
// hops in the engine's paths have no zone. It is replaced as a whole, because
// the engine's goroutine reads it.
type zones map[netip.Addr]string

// zonesOf lists the link-local peers. It wraps [ErrConfig] for two peers with one
// address on different links, which the engine cannot distinguish.
func zonesOf(peers map[netip.Addr]Peer) (zones, error) {
	z := zones{}
	for a, p := range peers {
		if a.Zone() == "" {
			continue
		}
		bare := a.WithZone("")
		if other, twice := z[bare]; twice {
			return nil, fmt.Errorf("%w: peer %s: Address %s is a peer's on %s too: give routers different link-local addresses", ErrConfig, p.Name, a, other)
		}
		z[bare] = a.Zone()
	}
	return z, nil
}

// scope adds the device to a link-local peer, and to a next hop on its link.
// linkLocal is the link-local next hop that the peer announced beside the global
// one (RFC 2545 section 3) and replaces it; it may be invalid.
func (z zones) scope(peer, hop, linkLocal netip.Addr) (netip.Addr, netip.Addr) {
	device, ok := z[peer]
	if !ok {
		return peer, hop
	}
	if linkLocal.IsLinkLocalUnicast() {
		hop = linkLocal
	}
	if hop.Is6() && hop.IsLinkLocalUnicast() {
		hop = hop.WithZone(device)
	}
	return peer.WithZone(device), hop
}
