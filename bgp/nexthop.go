package bgp

import (
	"context"
	"errors"
	"net/netip"
	"slices"
)

// Network is a subnet that this node has an address in.
type Network struct {
	Device string
	Prefix netip.Prefix
}

// addresses that no router has: they are of the link (RFC 3927), of the host,
// of groups, or reserved.
var (
	linkLocal4 = netip.MustParsePrefix("169.254.0.0/16")
	reserved4  = netip.MustParsePrefix("240.0.0.0/4")
	thisNet4   = netip.MustParsePrefix("0.0.0.0/8")
)

// judgeHop says whether a peer's path may lead to hop.
func (g *guard) judgeHop(w *ward, peer, hop netip.Addr) refusal {
	switch {
	case slices.Contains(g.gateways, hop):
		return hopGateway
	case hop == peer, !hop.IsValid(): // without one a path is not used
		return permitted
	case hop.Is6() && hop.IsLinkLocalUnicast():
		if !peer.IsLinkLocalUnicast() {
			return hopUnusable // on which link?
		}
		return permitted
	case linkLocal4.Contains(hop), hop.IsMulticast(), reserved4.Contains(hop), g.known && (hop.IsLoopback() || thisNet4.Contains(hop)):
		return hopUnusable
	case slices.ContainsFunc(g.networks, func(n Network) bool { return isEdge(n.Prefix, hop) }):
		return hopEdge
	case !w.ebgp:
		return permitted
	case slices.ContainsFunc(g.pools, func(p Pool) bool { return p.Prefix.Contains(hop) }):
		return hopPooled
	case !g.known || w.anyHop || slices.ContainsFunc(w.shared, func(p netip.Prefix) bool { return p.Contains(hop) }):
		return permitted
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

// sharedWith returns the subnets shared with a peer: all those on the device
// through which it is a neighbour, of both families.
func sharedWith(networks []Network, peer netip.Addr, device string) []netip.Prefix {
	on := func(name string) bool {
		if peer.Zone() != "" || device != "" {
			return name == peer.Zone() || name == device
		}
		return slices.ContainsFunc(networks, func(n Network) bool { return n.Device == name && n.Prefix.Contains(peer) })
	}
	var out []netip.Prefix
	for _, n := range networks {
		if on(n.Device) {
			out = append(out, n.Prefix.Masked())
		}
	}
	return out
}

// SetNetworks says which subnets this node is in: the next hops of a peer of
// another AS must be on one that it shares, unless Import.AnyNextHop. Before
// the first call that is not asked for. The routes of the peers whose subnets
// changed are judged again.
func (s *Speaker) SetNetworks(_ context.Context, networks []Network) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.networksKnown && slices.Equal(s.networks, networks) {
		return nil
	}
	had, known := s.networks, s.networksKnown
	s.networks, s.networksKnown = slices.Clone(networks), true
	if !s.started {
		return nil
	}
	if _, able := any(s.engine).(importer); !able {
		return nil
	}
	s.storeGuardLocked()
	var errs []error
	for addr, p := range s.peers {
		if p.Role == EBGP && (!known || !slices.Equal(sharedWith(had, addr, p.Interface), sharedWith(networks, addr, p.Interface))) {
			errs = append(errs, s.softResetLocked(addr.String(), softIn))
		}
	}
	return errors.Join(errs...)
}
