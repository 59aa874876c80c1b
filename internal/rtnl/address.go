package rtnl

import "golang.org/x/sys/unix"

// Address is the fixed part of a device's address, before the attributes
// (struct ifaddrmsg).
type Address struct {
	Family    uint8 // AF_INET or AF_INET6
	PrefixLen uint8
	Flags     uint8 // IFA_F_*, the low 8 bits unless IFA_FLAGS follows
	Scope     uint8 // RT_SCOPE_*
	Index     int32 // of the device
}

// ParseAddress reads the body of RTM_NEWADDR or RTM_DELADDR.
func ParseAddress(b []byte) (a Address, attrs Attributes, ok bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return Address{}, nil, false
	}
	return Address{Family: b[0], PrefixLen: b[1], Flags: b[2], Scope: b[3], Index: Index(b[4:])}, b[unix.SizeofIfAddrmsg:], true
}

// Address appends a.
func (b *Builder) Address(a Address) {
	b.B = append(b.B, a.Family, a.PrefixLen, a.Flags, a.Scope)
	b.Uint32(uint32(a.Index))
}
