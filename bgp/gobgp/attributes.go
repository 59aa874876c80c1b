package gobgp

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"onlink/bgp/policy"
)

// Attributes are the path attributes of a route (RFC 4271 section 5) in the
// engine's types. Each method reads them anew.
type Attributes []bgp.PathAttributeInterface

// NextHop returns the next hop of either family; the zero Addr when there is
// none.
func (l Attributes) NextHop() netip.Addr {
	for _, a := range l {
		var hop netip.Addr
		switch a := a.(type) {
		case *bgp.PathAttributeNextHop:
			hop, _ = netip.AddrFromSlice(a.Value)
		case *bgp.PathAttributeMpReachNLRI:
			hop, _ = netip.AddrFromSlice(a.Nexthop)
		default:
			continue
		}
		return hop.Unmap() // not valid when the slice has neither 4 nor 16 bytes
	}
	return netip.Addr{}
}

// OriginatorID returns the ORIGINATOR_ID (RFC 4456 section 8), or the zero Addr.
func (l Attributes) OriginatorID() netip.Addr {
	for _, a := range l {
		if a, ok := a.(*bgp.PathAttributeOriginatorId); ok {
			id, _ := netip.AddrFromSlice(a.Value.To4())
			return id
		}
	}
	return netip.Addr{}
}

// ClusterList returns the CLUSTER_LIST (RFC 4456 section 8).
func (l Attributes) ClusterList() (list []netip.Addr) {
	for _, a := range l {
		c, ok := a.(*bgp.PathAttributeClusterList)
		if !ok {
			continue
		}
		for _, id := range c.Value {
			if addr, ok := netip.AddrFromSlice(id.To4()); ok {
				list = append(list, addr)
			}
		}
	}
	return list
}

// ASPath returns the AS_PATH as text, "65001 65002 {65003,65004}"; "" when it is
// empty.
func (l Attributes) ASPath() string {
	path := l.asPath()
	if path == nil {
		return ""
	}
	var parts []string
	for _, seg := range path.Value {
		var list []string
		for _, as := range seg.GetAS() {
			list = append(list, strconv.FormatUint(uint64(as), 10))
		}
		if seg.GetType() == bgp.BGP_ASPATH_ATTR_TYPE_SET {
			parts = append(parts, "{"+strings.Join(list, ",")+"}")
			continue
		}
		parts = append(parts, strings.Join(list, " "))
	}
	return strings.Join(parts, " ")
}

func (l Attributes) asPath() *bgp.PathAttributeAsPath {
	for _, a := range l {
		if path, ok := a.(*bgp.PathAttributeAsPath); ok {
			return path
		}
	}
	return nil
}

// MayBeginIn reports whether the route may originate in an AS of in: whether the
// last segment of the AS_PATH ends with one of them or is a set, which has no
// order. It is false for an empty AS_PATH, because such a route originates in our
// own AS.
func (l Attributes) MayBeginIn(in map[uint32]bool) bool {
	path := l.asPath()
	if path == nil || len(path.Value) == 0 {
		return false
	}
	last := path.Value[len(path.Value)-1]
	list := last.GetAS()
	return last.GetType() != bgp.BGP_ASPATH_ATTR_TYPE_SEQ || len(list) == 0 || in[list[len(list)-1]]
}

// standard returns the standard communities (RFC 1997).
func (l Attributes) standard() []uint32 {
	for _, a := range l {
		if std, ok := a.(*bgp.PathAttributeCommunities); ok {
			return std.Value
		}
	}
	return nil
}

// Route returns the route to prefix in the form of package policy. Origin is "",
// and LocalPref and MED are nil, when the attribute is absent.
func (l Attributes) Route(prefix netip.Prefix) policy.Route {
	r := policy.Route{Prefix: prefix, NextHop: l.NextHop(), ASPath: l.ASPath()}
	for _, a := range l {
		switch a := a.(type) {
		case *bgp.PathAttributeOrigin:
			r.Origin = policy.Origins()[min(a.Value, 2)]
		case *bgp.PathAttributeLocalPref:
			r.LocalPref = &a.Value
		case *bgp.PathAttributeMultiExitDisc:
			r.MED = &a.Value
		case *bgp.PathAttributeCommunities:
			for _, c := range a.Value {
				r.Communities = append(r.Communities, policy.StandardText(c))
			}
		case *bgp.PathAttributeLargeCommunities:
			for _, c := range a.Values {
				r.LargeCommunities = append(r.LargeCommunities, c.String())
			}
		}
	}
	return r
}
