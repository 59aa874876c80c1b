// Part of the patch fanout/best-path-sets.

package table

import (
	"net"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// SharedCommunities returns the path's communities without a copy: the caller
// must not change them.
func (path *Path) SharedCommunities() []uint32 {
	if a, ok := path.getPathAttr(bgp.BGP_ATTR_TYPE_COMMUNITIES).(*bgp.PathAttributeCommunities); ok {
		return a.Value
	}
	return nil
}

// NextHops returns the next hop and, where MP_REACH_NLRI has one beside it,
// the link-local next hop.
func (path *Path) NextHops() (net.IP, net.IP) {
	if a, ok := path.getPathAttr(bgp.BGP_ATTR_TYPE_NEXT_HOP).(*bgp.PathAttributeNextHop); ok {
		return a.Value, nil
	}
	if a, ok := path.getPathAttr(bgp.BGP_ATTR_TYPE_MP_REACH_NLRI).(*bgp.PathAttributeMpReachNLRI); ok {
		return a.Nexthop, a.LinkLocalNexthop
	}
	return nil, nil
}
