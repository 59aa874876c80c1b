package rtnl

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// RTANHID is RTA_NH_ID, the ID of a route's nexthop object
// (linux/rtnetlink.h).
const RTANHID = 30

// Route is the fixed part of a route, before the attributes (struct rtmsg).
type Route struct {
	Family         uint8 // AF_INET or AF_INET6
	DstLen, SrcLen uint8 // in bits
	TOS            uint8
	Table          uint32 // read: the low 8 bits, unless RTA_TABLE follows; 0: all
	Protocol       uint8  // RTPROT_*
	Scope          uint8  // RT_SCOPE_*
	Type           uint8  // RTN_*
	Flags          uint32 // RTM_F_* and RTNH_F_*
}

// RouteHead is what [Route] is read from, for who reads a whole table and needs
// few of the fields: a Route does not fit into registers, and its way through
// memory took a third of the time.
type RouteHead [unix.SizeofRtMsg]byte

// CutRoute is [ParseRoute] that reads no field yet.
func CutRoute(b []byte) (h *RouteHead, attrs Attributes, ok bool) {
	if len(b) < unix.SizeofRtMsg {
		return nil, nil, false
	}
	return (*RouteHead)(b), b[unix.SizeofRtMsg:], true
}

// Family is [Route.Family].
func (h *RouteHead) Family() uint8 { return h[0] }

// DstLen is [Route.DstLen].
func (h *RouteHead) DstLen() uint8 { return h[1] }

// SrcLen is [Route.SrcLen].
func (h *RouteHead) SrcLen() uint8 { return h[2] }

// TOS is [Route.TOS].
func (h *RouteHead) TOS() uint8 { return h[3] }

// Table is [Route.Table].
func (h *RouteHead) Table() uint32 { return uint32(h[4]) }

// Protocol is [Route.Protocol].
func (h *RouteHead) Protocol() uint8 { return h[5] }

// Type is [Route.Type].
func (h *RouteHead) Type() uint8 { return h[7] }

// Flags is [Route.Flags].
func (h *RouteHead) Flags() uint32 { return native.Uint32(h[8:]) }

// ParseRoute reads the body of RTM_NEWROUTE or RTM_DELROUTE.
func ParseRoute(b []byte) (r Route, attrs Attributes, ok bool) {
	if len(b) < unix.SizeofRtMsg {
		return Route{}, nil, false
	}
	return Route{
		Family: b[0], DstLen: b[1], SrcLen: b[2], TOS: b[3],
		Table: uint32(b[4]), Protocol: b[5], Scope: b[6], Type: b[7], Flags: native.Uint32(b[8:]),
	}, b[unix.SizeofRtMsg:], true
}

// Route appends r, with RTA_TABLE for a table above 255.
func (b *Builder) Route(r *Route) {
	table := uint8(unix.RT_TABLE_UNSPEC)
	if r.Table <= 255 {
		table = uint8(r.Table)
	}
	at := len(b.B)
	b.B = append(b.B, r.Family, r.DstLen, r.SrcLen, r.TOS, table, r.Protocol, r.Scope, r.Type, 0, 0, 0, 0)
	native.PutUint32(b.B[at+8:], r.Flags)
	if r.Table > 255 {
		b.AttrUint32(unix.RTA_TABLE, r.Table)
	}
}

// Gateway appends the gateway of a route of family v6: RTA_GATEWAY, or RTA_VIA
// when the families differ (RFC 8950's IPv4 over an IPv6 next hop).
func (b *Builder) Gateway(v6 bool, via netip.Addr) {
	if via.Is6() == v6 {
		b.AttrAddr(unix.RTA_GATEWAY, via)
		return
	}
	b.Uint16(uint16(unix.SizeofRtAttr + 2 + via.BitLen()/8))
	b.Uint16(unix.RTA_VIA)
	b.Uint16(uint16(Family(via)))
	b.Addr(via)
	b.pad()
}

// Via reads RTA_VIA: an address family and a gateway of that family.
func Via(b []byte) netip.Addr {
	if len(b) < 2 {
		return netip.Addr{}
	}
	return Addr(b[2:])
}

// Destination returns a route's prefix from RTA_DST, whose absence means the
// default route. The result may be invalid.
func (r *Route) Destination(dst netip.Addr) netip.Prefix {
	if !dst.IsValid() {
		switch r.Family {
		case unix.AF_INET:
			dst = netip.IPv4Unspecified()
		case unix.AF_INET6:
			dst = netip.IPv6Unspecified()
		}
	}
	return netip.PrefixFrom(dst, int(r.DstLen))
}

// Hop is one member of RTA_MULTIPATH (struct rtnexthop).
type Hop struct {
	Via    netip.Addr // the zero Addr: the destination is on the device's wire
	Device int32      // index
	Weight uint8      // less one
	Onlink bool       // RTNH_F_ONLINK
	Encap  bool       // with a lightweight tunnel (RTA_ENCAP)
}

// Hops is the value of RTA_MULTIPATH.
type Hops []byte

// Next cuts off the first hop and reads it into h. It returns false at the end,
// and at a length that does not fit.
func (b *Hops) Next(h *Hop) bool {
	d := *b
	if len(d) < unix.SizeofRtNexthop {
		return false
	}
	n := int(native.Uint16(d))
	if n < unix.SizeofRtNexthop || n > len(d) {
		return false
	}
	*b = d[min(align(n), len(d)):]
	*h = Hop{Onlink: d[2]&unix.RTNH_F_ONLINK != 0, Weight: d[3], Device: Index(d[4:])}
	for attrs := Attributes(d[unix.SizeofRtNexthop:n]); ; {
		kind, value, ok := attrs.Next()
		if !ok {
			return true
		}
		switch kind {
		case unix.RTA_GATEWAY:
			h.Via = Addr(value)
		case unix.RTA_VIA:
			h.Via = Via(value)
		case unix.RTA_ENCAP:
			h.Encap = true
		}
	}
}

// OpenHop begins one member of weight 1 of an open RTA_MULTIPATH, with RTNH_F_*,
// and returns where it starts, for [Builder.Close]. Its gateway is appended next
// ([Builder.Gateway]), if it has one.
func (b *Builder) OpenHop(device int32, flags uint8) (at int) {
	at = len(b.B)
	b.Uint16(0)
	b.B = append(b.B, flags, 0)
	b.Uint32(uint32(device))
	return at
}
