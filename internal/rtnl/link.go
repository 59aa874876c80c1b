package rtnl

import "golang.org/x/sys/unix"

// Link is the fixed part of a device, before the attributes (struct ifinfomsg).
type Link struct {
	Family uint8 // AF_UNSPEC; AF_BRIDGE: a port's forwarding state
	Index  int32
	Flags  uint32 // IFF_*
	Change uint32 // which of Flags a request changes
}

// ParseLink reads the body of RTM_NEWLINK or RTM_DELLINK.
func ParseLink(b []byte) (l Link, attrs Attributes, ok bool) {
	if len(b) < unix.SizeofIfInfomsg {
		return Link{}, nil, false
	}
	return Link{Family: b[0], Index: Index(b[4:]), Flags: native.Uint32(b[8:]), Change: native.Uint32(b[12:])}, b[unix.SizeofIfInfomsg:], true
}

// Link appends l.
func (b *Builder) Link(l Link) {
	b.B = append(b.B, l.Family, 0, 0, 0) // and padding, and the hardware type
	b.Uint32(uint32(l.Index))
	b.Uint32(l.Flags)
	b.Uint32(l.Change)
}
