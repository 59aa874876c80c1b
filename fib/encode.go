package fib

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

// encoder appends the messages of a Table to one buffer. It keeps the buffer,
// so that a batch allocates nothing.
type encoder struct {
	rtnl.Builder

	table uint32
	src4  netip.Addr
	src6  netip.Addr
}

func family(v6 bool) uint8 {
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

// request appends the message of r with the sequence number seq and returns the
// message's offset.
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
	start := e.Begin(unix.RTM_DELNEXTHOP, 0, seq)
	e.Nexthop(rtnl.Nexthop{})
	e.AttrUint32(unix.NHA_ID, r.id)
	e.End(start)
	return start
}

func (e *encoder) route(r *request, typ, flags uint16, seq uint32) int {
	v6 := r.key.prefix.Addr().Is6()
	start := e.Begin(typ, flags, seq)
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
	e.Route(&rtnl.Route{
		Family: family(v6), DstLen: uint8(r.key.prefix.Bits()), TOS: r.key.tos, Table: e.table,
		Protocol: ours.Protocol, Scope: scope, Type: kind, Flags: nhFlags,
	})
	e.AttrAddr(unix.RTA_DST, r.key.prefix.Addr())
	if r.key.metric != 0 {
		e.AttrUint32(unix.RTA_PRIORITY, r.key.metric)
	}
	if typ == unix.RTM_NEWROUTE {
		e.target(r, v6)
	}
	e.End(start)
	return start
}

// target appends the next hop of a route: an object, or plain attributes.
func (e *encoder) target(r *request, v6 bool) {
	if src := e.source(v6); src.IsValid() && r.nh.takesSource() {
		e.AttrAddr(unix.RTA_PREFSRC, src)
	}
	switch {
	case r.id != 0:
		e.AttrUint32(rtnl.RTANHID, r.id)
	case r.nh.kind == groupHop:
		e.multipath(r.nh.members, v6)
	case r.nh.kind == gatewayHop:
		if r.nh.key.via.IsValid() {
			e.Gateway(v6, r.nh.key.via)
		}
		e.AttrUint32(unix.RTA_OIF, r.nh.dev.index)
	case r.nh.kind == linkHop:
		e.AttrUint32(unix.RTA_OIF, r.nh.dev.index)
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
	at := e.Open(unix.RTA_MULTIPATH)
	for _, m := range members {
		hop := e.OpenHop(int32(m.dev.index), uint8(onlinkFlag(m.key.onlink)))
		if m.key.via.IsValid() {
			e.Gateway(v6, m.key.via)
		}
		e.Close(hop)
	}
	e.Close(at)
}

func (e *encoder) nexthop(r *request, flags uint16, seq uint32) int {
	start := e.Begin(unix.RTM_NEWNEXTHOP, flags, seq)
	if r.nh.kind == groupHop {
		e.Nexthop(rtnl.Nexthop{Protocol: ours.Protocol})
		e.AttrUint32(unix.NHA_ID, r.id)
		at := e.Open(unix.NHA_GROUP)
		for _, m := range r.nh.members {
			e.Member(m.id)
		}
		e.Close(at)
		e.End(start)
		return start
	}
	k := r.nh.key
	e.Nexthop(rtnl.Nexthop{Family: family(k.v6), Protocol: ours.Protocol, Flags: onlinkFlag(k.onlink)})
	e.AttrUint32(unix.NHA_ID, r.id)
	e.AttrUint32(unix.NHA_OIF, r.nh.dev.index)
	if k.via.IsValid() {
		e.AttrAddr(unix.NHA_GATEWAY, k.via)
	}
	e.End(start)
	return start
}

// dumpRoutes appends the request for a dump that the kernel filters by table
// and protocol (NETLINK_GET_STRICT_CHK).
func (e *encoder) dumpRoutes(v6 bool, protocol uint8, seq uint32) {
	start := e.Begin(unix.RTM_GETROUTE, unix.NLM_F_DUMP, seq)
	e.Route(&rtnl.Route{Family: family(v6), Table: e.table, Protocol: protocol})
	e.End(start)
}

func (e *encoder) dumpNexthops(seq uint32) {
	start := e.Begin(unix.RTM_GETNEXTHOP, unix.NLM_F_DUMP, seq)
	e.Nexthop(rtnl.Nexthop{})
	e.End(start)
}

// lookup appends the request for the route of a packet to a.
func (e *encoder) lookup(a netip.Addr, seq uint32) {
	start := e.Begin(unix.RTM_GETROUTE, unix.NLM_F_ACK, seq)
	e.Route(&rtnl.Route{Family: rtnl.Family(a), DstLen: uint8(a.BitLen()), Flags: unix.RTM_F_LOOKUP_TABLE | unix.RTM_F_FIB_MATCH})
	e.AttrAddr(unix.RTA_DST, a)
	e.End(start)
}
