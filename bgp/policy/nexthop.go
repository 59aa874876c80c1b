package policy

import (
	"net/netip"
	"slices"
)

// Network is a subnet that this node has an address in.
type Network struct {
	Device string
	Prefix netip.Prefix
}

// Ranges without addresses of routers: link-local (RFC 3927), reserved (RFC 1112)
// and "this network" (RFC 1122).
var (
	linkLocal4 = netip.MustParsePrefix("169.254.0.0/16")
	reserved4  = netip.MustParsePrefix("240.0.0.0/4")
	thisNet4   = netip.MustParsePrefix("0.0.0.0/8")
)

// JudgeHop returns why a peer's path may not lead to hop, or Permitted.
func (g *Guard) JudgeHop(w *Ward, peer, hop netip.Addr) Refusal {
	switch {
	case slices.Contains(g.gateways, hop):
		return hopGateway
	case hop == peer, !hop.IsValid(): // a path without a next hop is not used
		return Permitted
	case hop.Is6() && hop.IsLinkLocalUnicast():
		if !peer.IsLinkLocalUnicast() {
			return hopUnusable // on which link?
		}
		return Permitted
	case linkLocal4.Contains(hop), hop.IsMulticast(), reserved4.Contains(hop), g.known && (hop.IsLoopback() || thisNet4.Contains(hop)):
		return hopUnusable
	case slices.ContainsFunc(g.networks, func(n Network) bool { return isEdge(n.Prefix, hop) }):
		return hopEdge
	case !w.external:
		return Permitted
	case slices.ContainsFunc(g.pools, func(p Pool) bool { return p.Prefix.Contains(hop) }):
		return hopPooled
	case !g.known || w.anyHop || slices.ContainsFunc(w.shared, func(p netip.Prefix) bool { return p.Contains(hop) }):
		return Permitted
	}
	return hopForeign
}

// isEdge reports whether addr is the zero address of a subnet, which means the
// subnet itself (RFC 4291 section 2.6.1: any router in it), or in IPv4 the
// broadcast address. A subnet of two addresses has neither (RFC 3021, RFC 6164).
func isEdge(subnet netip.Prefix, addr netip.Addr) bool {
	if subnet.Bits() > addr.BitLen()-2 || !subnet.Contains(addr) {
		return false
	}
	return addr == subnet.Masked().Addr() || addr.Is4() && !subnet.Contains(addr.Next())
}

// Shared returns the subnets shared with a peer: all those on the device
// through which it is a neighbour, of both families.
func (p *Peer) Shared(networks []Network) []netip.Prefix {
	on := func(device string) bool {
		if p.Device != "" {
			return device == p.Device
		}
		return slices.ContainsFunc(networks, func(n Network) bool { return n.Device == device && n.Prefix.Contains(p.Neighbor.Addr()) })
	}
	var out []netip.Prefix
	for _, n := range networks {
		if on(n.Device) {
			out = append(out, n.Prefix.Masked())
		}
	}
	return out
}
