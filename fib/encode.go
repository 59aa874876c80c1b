package fib

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
)

// Attribute numbers that golang.org/x/sys does not name
// (include/uapi/linux/rtnetlink.h).
const (
	rtaNHID     = 30
	nhaFDB      = 11
	nlaTypeMask = 0x3fff
	rtnhLen     = 8 // sizeof(struct rtnexthop)
)

// encoder appends rtnetlink messages (rtnetlink(7)) to one buffer, in native
// byte order. It keeps the buffer, so that a batch allocates nothing.
type encoder struct {
	b     []byte
	table uint32
	src4  netip.Addr
	src6  netip.Addr
}

func (e *encoder) u16(v uint16) { e.b = binary.NativeEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = binary.NativeEndian.AppendUint32(e.b, v) }

// begin appends a message header and returns where it starts, for end.
func (e *encoder) begin(typ, flags uint16, seq uint32) int {
	start := len(e.b)
	e.u32(0)
	e.u16(typ)
	e.u16(flags | unix.NLM_F_REQUEST)
	e.u32(seq)
	e.u32(0)
	return start
}

// end fills in the message's length. Every message is a multiple of four.
func (e *encoder) end(start int) {
	binary.NativeEndian.PutUint32(e.b[start:], uint32(len(e.b)-start))
}

func (e *encoder) attr32(typ uint16, v uint32) {
	e.u16(8)
	e.u16(typ)
	e.u32(v)
}

// addr appends the address's bytes.
func (e *encoder) addr(a netip.Addr) {
	if a.Is4() {
		v := a.As4()
		e.b = append(e.b, v[:]...)
		return
	}
	v := a.As16()
	e.b = append(e.b, v[:]...)
}

func (e *encoder) attrAddr(typ uint16, a netip.Addr) {
	e.u16(uint16(4 + a.BitLen()/8))
	e.u16(typ)
	e.addr(a)
}

// gateway appends the next hop of a route of family v6: RTA_GATEWAY, or
// RTA_VIA when the families differ (RFC 8950's IPv4 over an IPv6 next hop).
func (e *encoder) gateway(v6 bool, via netip.Addr) {
	if via.Is6() == v6 {
		e.attrAddr(unix.RTA_GATEWAY, via)
		return
	}
	e.u16(uint16(4 + 2 + via.BitLen()/8))
	e.u16(unix.RTA_VIA)
	e.u16(family(via.Is6()))
	e.addr(via)
	for len(e.b)%4 != 0 {
		e.b = append(e.b, 0)
	}
}

func family(v6 bool) uint16 {
	if v6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func onlinkFlag(on bool) uint32 {
	if on {
		return unix.RTNH_F_ONLINK
	}
	return 0
}

// request appends the message of r with the sequence number seq and returns
// where it starts.
func (e *encoder) request(r *request, seq uint32) int {
	switch r.verb {
	case addRoute:
		return e.route(r, unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, seq)
	case replaceRoute:
		return e.route(r, unix.RTM_NEWROUTE, unix.NLM_F_REPLACE, seq)
	case deleteRoute:
		return e.route(r, unix.RTM_DELROUTE, 0, seq)
	case addNexthop:
		return e.nexthop(r, unix.NLM_F_CREATE|unix.NLM_F_EXCL, seq)
	case replaceNexthop:
		return e.nexthop(r, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, seq)
	case deleteNexthop:
	}
	start := e.begin(unix.RTM_DELNEXTHOP, 0, seq)
	e.nhmsg(unix.AF_UNSPEC, 0, 0)
	e.attr32(unix.NHA_ID, r.id)
	e.end(start)
	return start
}

// rtmsg appends struct rtmsg and, for tables above 255, RTA_TABLE.
func (e *encoder) rtmsg(fam uint16, bits int, tos, protocol, scope, kind uint8, flags uint32) {
	table := uint8(unix.RT_TABLE_UNSPEC)
	if e.table <= 255 {
		table = uint8(e.table)
	}
	e.b = append(e.b, uint8(fam), uint8(bits), 0, tos, table, protocol, scope, kind)
	e.u32(flags)
}

func (e *encoder) tableAttr() {
	if e.table > 255 {
		e.attr32(unix.RTA_TABLE, e.table)
	}
}

func (e *encoder) route(r *request, typ, flags uint16, seq uint32) int {
	v6 := r.key.prefix.Addr().Is6()
	start := e.begin(typ, flags, seq)
	kind, scope, nhFlags := uint8(unix.RTN_UNICAST), uint8(unix.RT_SCOPE_UNIVERSE), uint32(0)
	switch {
	case typ == unix.RTM_DELROUTE:
		kind, scope = unix.RTN_UNSPEC, unix.RT_SCOPE_NOWHERE
	case r.nh.kind == blackholeHop:
		kind = unix.RTN_BLACKHOLE
	case r.nh.kind == linkHop && !v6:
		scope = unix.RT_SCOPE_LINK
	case r.nh.kind == gatewayHop && r.id == 0:
		nhFlags = onlinkFlag(r.nh.key.onlink)
	}
	e.rtmsg(family(v6), r.key.prefix.Bits(), r.key.tos, ours.Protocol, scope, kind, nhFlags)
	e.tableAttr()
	e.attrAddr(unix.RTA_DST, r.key.prefix.Addr())
	if r.key.metric != 0 {
		e.attr32(unix.RTA_PRIORITY, r.key.metric)
	}
	if typ == unix.RTM_NEWROUTE {
		e.target(r, v6)
	}
	e.end(start)
	return start
}

// target appends where a route points: at an object, or plain attributes.
func (e *encoder) target(r *request, v6 bool) {
	if src := e.source(v6); src.IsValid() && r.nh.takesSource() {
		e.attrAddr(unix.RTA_PREFSRC, src)
	}
	switch {
	case r.id != 0:
		e.attr32(rtaNHID, r.id)
	case r.nh.kind == groupHop:
		e.multipath(r.nh.members, v6)
	case r.nh.kind == gatewayHop:
		if r.nh.key.via.IsValid() {
			e.gateway(v6, r.nh.key.via)
		}
		e.attr32(unix.RTA_OIF, r.nh.dev.index)
	case r.nh.kind == linkHop:
		e.attr32(unix.RTA_OIF, r.nh.dev.index)
	}
}

func (e *encoder) source(v6 bool) netip.Addr {
	if v6 {
		return e.src6
	}
	return e.src4
}

// multipath appends RTA_MULTIPATH: a struct rtnexthop with a gateway each.
func (e *encoder) multipath(members []*nexthop, v6 bool) {
	nest := len(e.b)
	e.u16(0)
	e.u16(unix.RTA_MULTIPATH)
	for _, m := range members {
		hop := len(e.b)
		e.u16(0)
		e.b = append(e.b, uint8(onlinkFlag(m.key.onlink)), 0)
		e.u32(m.dev.index)
		if m.key.via.IsValid() {
			e.gateway(v6, m.key.via)
		}
		binary.NativeEndian.PutUint16(e.b[hop:], uint16(len(e.b)-hop))
	}
	binary.NativeEndian.PutUint16(e.b[nest:], uint16(len(e.b)-nest))
}

// nhmsg appends struct nhmsg (include/uapi/linux/nexthop.h).
func (e *encoder) nhmsg(fam uint16, protocol uint8, flags uint32) {
	e.b = append(e.b, uint8(fam), unix.RT_SCOPE_UNIVERSE, protocol, 0)
	e.u32(flags)
}

func (e *encoder) nexthop(r *request, flags uint16, seq uint32) int {
	start := e.begin(unix.RTM_NEWNEXTHOP, flags, seq)
	if r.nh.kind == groupHop {
		e.nhmsg(unix.AF_UNSPEC, ours.Protocol, 0)
		e.attr32(unix.NHA_ID, r.id)
		e.u16(uint16(4 + 8*len(r.nh.members)))
		e.u16(unix.NHA_GROUP)
		for _, m := range r.nh.members {
			e.u32(m.id)
			e.u32(0) // weight 1 less one, and padding
		}
		e.end(start)
		return start
	}
	k := r.nh.key
	e.nhmsg(family(k.v6), ours.Protocol, onlinkFlag(k.onlink))
	e.attr32(unix.NHA_ID, r.id)
	e.attr32(unix.NHA_OIF, r.nh.dev.index)
	if k.via.IsValid() {
		e.attrAddr(unix.NHA_GATEWAY, k.via)
	}
	e.end(start)
	return start
}

// dumpRoutes appends the request for a dump that the kernel filters by table
// and protocol (NETLINK_GET_STRICT_CHK).
func (e *encoder) dumpRoutes(v6 bool, protocol uint8, seq uint32) {
	start := e.begin(unix.RTM_GETROUTE, unix.NLM_F_DUMP, seq)
	e.rtmsg(family(v6), 0, 0, protocol, 0, 0, 0)
	e.tableAttr()
	e.end(start)
}

func (e *encoder) dumpNexthops(seq uint32) {
	start := e.begin(unix.RTM_GETNEXTHOP, unix.NLM_F_DUMP, seq)
	e.nhmsg(unix.AF_UNSPEC, 0, 0)
	e.end(start)
}

// lookup appends the question which route of the FIB a packet to a takes.
func (e *encoder) lookup(a netip.Addr, seq uint32) {
	start := e.begin(unix.RTM_GETROUTE, unix.NLM_F_ACK, seq)
	e.b = append(e.b, uint8(family(a.Is6())), uint8(a.BitLen()), 0, 0, 0, 0, 0, 0)
	e.u32(unix.RTM_F_LOOKUP_TABLE | unix.RTM_F_FIB_MATCH)
	e.attrAddr(unix.RTA_DST, a)
	e.end(start)
}
