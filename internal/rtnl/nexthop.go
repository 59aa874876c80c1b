package rtnl

import "golang.org/x/sys/unix"

// NHAFDB is NHA_FDB: the object is for bridge FDB entries (linux/nexthop.h).
const NHAFDB = 11

// Nexthop is the fixed part of a nexthop object, before the attributes (struct
// nhmsg).
type Nexthop struct {
	Family   uint8 // AF_UNSPEC for a group
	Scope    uint8 // RT_SCOPE_*
	Protocol uint8 // RTPROT_*
	Flags    uint32
}

// ParseNexthop reads the body of RTM_NEWNEXTHOP or RTM_DELNEXTHOP.
func ParseNexthop(b []byte) (n Nexthop, attrs Attributes, ok bool) {
	if len(b) < unix.SizeofNhmsg {
		return Nexthop{}, nil, false
	}
	return Nexthop{Family: b[0], Scope: b[1], Protocol: b[2], Flags: native.Uint32(b[4:])}, b[unix.SizeofNhmsg:], true
}

// Nexthop appends n.
func (b *Builder) Nexthop(n Nexthop) {
	b.B = append(b.B, n.Family, n.Scope, n.Protocol, 0)
	b.Uint32(n.Flags)
}

// Members is the value of NHA_GROUP (an array of struct nexthop_grp).
type Members []byte

// Next cuts off the first member and returns the ID of its object and its
// weight less one. It returns false at the end.
func (b *Members) Next() (id uint32, weight uint8, ok bool) {
	d := *b
	if len(d) < unix.SizeofNexthopGrp {
		return 0, 0, false
	}
	*b = d[unix.SizeofNexthopGrp:]
	return native.Uint32(d), d[4], true
}

// Member appends one member of weight 1 to an open NHA_GROUP.
func (b *Builder) Member(id uint32) {
	b.Uint32(id)
	b.Uint32(0) // the weight less one, and padding
}
