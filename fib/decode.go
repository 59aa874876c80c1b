package fib

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// attrs walks netlink attributes; a malformed one ends the walk.
type attrs struct{ b []byte }

// next returns the next attribute; ok is false at the end.
func (a *attrs) next() (typ uint16, val []byte, ok bool) {
	if len(a.b) < 4 {
		return 0, nil, false
	}
	n := int(binary.NativeEndian.Uint16(a.b))
	if n < 4 || n > len(a.b) {
		return 0, nil, false
	}
	typ = binary.NativeEndian.Uint16(a.b[2:]) & nlaTypeMask
	val = a.b[4:n]
	a.b = a.b[min(align4(n), len(a.b)):]
	return typ, val, true
}

func align4(n int) int { return (n + 3) &^ 3 }

// value32 reads a 32-bit attribute; 0 when it is too short.
func value32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

// valueAddr reads an address of 4 or 16 bytes.
func valueAddr(b []byte) netip.Addr {
	switch len(b) {
	case 4:
		return netip.AddrFrom4([4]byte(b))
	case 16:
		return netip.AddrFrom16([16]byte(b))
	}
	return netip.Addr{}
}

// valueVia reads struct rtvia: a family and an address.
func valueVia(b []byte) netip.Addr {
	if len(b) < 2 {
		return netip.Addr{}
	}
	return valueAddr(b[2:])
}

// decodeRoute reads the body of an RTM_NEWROUTE message into r. It reports
// whether the body is one.
func decodeRoute(b []byte, r *wireRoute) bool {
	const sourceLen = 2
	if len(b) < unix.SizeofRtMsg || b[sourceLen] != 0 {
		return false // not a route, or a source-specific one, which we never write
	}
	*r = wireRoute{table: uint32(b[4]), protocol: b[5], kind: b[7]}
	r.key.tos = b[3]
	dst := netip.IPv4Unspecified()
	if b[0] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	bits, flags := int(b[1]), binary.NativeEndian.Uint32(b[8:])
	var single wireHop
	single.onlink = flags&unix.RTNH_F_ONLINK != 0
	for a := (attrs{b[unix.SizeofRtMsg:]}); ; {
		typ, val, ok := a.next()
		if !ok {
			break
		}
		if typ == unix.RTA_DST {
			dst = valueAddr(val)
			continue
		}
		r.attr(typ, val, &single)
	}
	if r.count == 0 && (single.oif != 0 || single.via.IsValid()) {
		r.hop[0], r.count = single, 1
	}
	r.key.prefix = netip.PrefixFrom(dst, bits)
	return r.key.prefix.IsValid()
}

// attr stores one attribute of a route.
func (r *wireRoute) attr(typ uint16, val []byte, single *wireHop) {
	switch typ {
	case unix.RTA_TABLE:
		r.table = value32(val)
	case unix.RTA_PRIORITY:
		r.key.metric = value32(val)
	case unix.RTA_PREFSRC:
		r.source = valueAddr(val)
	case unix.RTA_OIF:
		single.oif = value32(val)
	case unix.RTA_GATEWAY:
		single.via = valueAddr(val)
	case unix.RTA_VIA:
		single.via = valueVia(val)
	case rtaNHID:
		r.nhid = value32(val)
	case unix.RTA_MULTIPATH:
		r.multipath(val)
	case unix.RTA_ENCAP, unix.RTA_METRICS:
		r.odd = true
	}
}

// multipath reads the array of struct rtnexthop.
func (r *wireRoute) multipath(b []byte) {
	for len(b) >= rtnhLen {
		n := int(binary.NativeEndian.Uint16(b))
		if n < rtnhLen || n > len(b) {
			return
		}
		h := wireHop{onlink: b[2]&unix.RTNH_F_ONLINK != 0, weight: b[3], oif: value32(b[4:])}
		for a := (attrs{b[rtnhLen:n]}); ; {
			typ, val, ok := a.next()
			if !ok {
				break
			}
			switch typ {
			case unix.RTA_GATEWAY:
				h.via = valueAddr(val)
			case unix.RTA_VIA:
				h.via = valueVia(val)
			case unix.RTA_ENCAP:
				r.odd = true
			}
		}
		if r.count < len(r.hop) {
			r.hop[r.count] = h
		}
		r.count++
		b = b[min(align4(n), len(b)):]
	}
}

// decodeNexthop reads the body of an RTM_NEWNEXTHOP message into n. It
// reports whether the body is one.
func decodeNexthop(b []byte, n *wireNexthop) bool {
	const sizeofNhmsg = 8
	if len(b) < sizeofNhmsg {
		return false
	}
	*n = wireNexthop{protocol: b[2], v6: b[0] == unix.AF_INET6}
	n.single.onlink = binary.NativeEndian.Uint32(b[4:])&unix.RTNH_F_ONLINK != 0
	for a := (attrs{b[sizeofNhmsg:]}); ; {
		typ, val, ok := a.next()
		if !ok {
			return n.id != 0
		}
		switch typ {
		case unix.NHA_ID:
			n.id = value32(val)
		case unix.NHA_OIF:
			n.single.oif = value32(val)
		case unix.NHA_GATEWAY:
			n.single.via = valueAddr(val)
		case unix.NHA_GROUP:
			n.group(val)
		case unix.NHA_GROUP_TYPE:
			n.odd = n.odd || len(val) >= 2 && binary.NativeEndian.Uint16(val) != 0
		case unix.NHA_BLACKHOLE, unix.NHA_ENCAP, nhaFDB:
			n.odd = true
		}
	}
}

// group reads the array of struct nexthop_grp.
func (n *wireNexthop) group(b []byte) {
	for ; len(b) >= 8; b = b[8:] {
		if n.count < len(n.member) {
			n.member[n.count] = wireMember{id: value32(b), weight: b[4]}
		}
		n.count++
	}
}
