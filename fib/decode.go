package fib

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"onlink/internal/rtnl"
)

// decodeRoute reads the body of an RTM_NEWROUTE message into r. It reports
// whether the body is a route that we may have written.
func decodeRoute(b []byte, r *wireRoute) bool {
	h, attrs, ok := rtnl.CutRoute(b)
	if !ok || h.SrcLen() != 0 {
		return false // not a route, or a source-specific one, which we never write
	}
	r.wireHead = wireHead{table: h.Table(), protocol: h.Protocol(), kind: h.Type()}
	r.key.tos = h.TOS()
	dst := netip.IPv4Unspecified()
	if h.Family() == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	var single wireHop
	single.onlink = h.Flags()&unix.RTNH_F_ONLINK != 0
	for {
		typ, val, ok := attrs.Next()
		if !ok {
			break
		}
		if typ == unix.RTA_DST {
			dst = rtnl.Addr(val)
			continue
		}
		r.attr(typ, val, &single)
	}
	if r.count == 0 && (single.oif != 0 || single.via.IsValid()) {
		r.hop[0], r.count = single, 1
	}
	r.key.prefix = netip.PrefixFrom(dst, int(h.DstLen()))
	return r.key.prefix.IsValid()
}

// attr stores one attribute of a route.
func (r *wireRoute) attr(typ uint16, val []byte, single *wireHop) {
	switch typ {
	case unix.RTA_TABLE:
		r.table = rtnl.Uint32(val)
	case unix.RTA_PRIORITY:
		r.key.metric = rtnl.Uint32(val)
	case unix.RTA_PREFSRC:
		r.source = rtnl.Addr(val)
	case unix.RTA_OIF:
		single.oif = rtnl.Uint32(val)
	case unix.RTA_GATEWAY:
		single.via = rtnl.Addr(val)
	case unix.RTA_VIA:
		single.via = rtnl.Via(val)
	case rtnl.RTANHID:
		r.nhid = rtnl.Uint32(val)
	case unix.RTA_MULTIPATH:
		r.multipath(val)
	case unix.RTA_ENCAP, unix.RTA_METRICS:
		r.odd = true
	}
}

// multipath reads the array of struct rtnexthop.
func (r *wireRoute) multipath(b []byte) {
	var h rtnl.Hop
	for hops := rtnl.Hops(b); hops.Next(&h); {
		r.odd = r.odd || h.Encap
		if r.count < len(r.hop) {
			r.hop[r.count] = wireHop{via: h.Via, oif: uint32(h.Device), weight: h.Weight, onlink: h.Onlink}
		}
		r.count++
	}
}

// decodeNexthop reads the body of an RTM_NEWNEXTHOP message into n. It reports
// whether the body is a nexthop object.
func decodeNexthop(b []byte, n *wireNexthop) bool {
	h, attrs, ok := rtnl.ParseNexthop(b)
	if !ok {
		return false
	}
	*n = wireNexthop{protocol: h.Protocol, v6: h.Family == unix.AF_INET6}
	n.single.onlink = h.Flags&unix.RTNH_F_ONLINK != 0
	for {
		typ, val, ok := attrs.Next()
		if !ok {
			return n.id != 0
		}
		switch typ {
		case unix.NHA_ID:
			n.id = rtnl.Uint32(val)
		case unix.NHA_OIF:
			n.single.oif = rtnl.Uint32(val)
		case unix.NHA_GATEWAY:
			n.single.via = rtnl.Addr(val)
		case unix.NHA_GROUP:
			n.group(val)
		case unix.NHA_GROUP_TYPE:
			n.odd = n.odd || rtnl.Uint16(val) != 0
		case unix.NHA_BLACKHOLE, unix.NHA_ENCAP, rtnl.NHAFDB:
			n.odd = true
		}
	}
}

// group reads the array of struct nexthop_grp.
func (n *wireNexthop) group(b []byte) {
	for members := rtnl.Members(b); ; n.count++ {
		id, weight, ok := members.Next()
		if !ok {
			return
		}
		if n.count < len(n.member) {
			n.member[n.count] = wireMember{id: id, weight: weight}
		}
	}
}
