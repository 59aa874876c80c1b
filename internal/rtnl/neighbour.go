package rtnl

import "golang.org/x/sys/unix"

// Neighbour is the fixed part of an entry of a neighbour table or FDB, before
// the attributes (struct ndmsg).
type Neighbour struct {
	Family uint8  // AF_INET, AF_INET6, or AF_BRIDGE for an FDB entry
	Index  int32  // of the device
	State  uint16 // NUD_*
	Flags  uint8  // NTF_*
	Type   uint8  // RTN_*
}

// ParseNeighbour reads the body of RTM_NEWNEIGH or RTM_DELNEIGH.
func ParseNeighbour(b []byte) (n Neighbour, attrs Attributes, ok bool) {
	if len(b) < unix.SizeofNdMsg {
		return Neighbour{}, nil, false
	}
	return Neighbour{Family: b[0], Index: Index(b[4:]), State: native.Uint16(b[8:]), Flags: b[10], Type: b[11]}, b[unix.SizeofNdMsg:], true
}

// Neighbour appends n.
func (b *Builder) Neighbour(n Neighbour) {
	b.B = append(b.B, n.Family, 0, 0, 0)
	b.Uint32(uint32(n.Index))
	b.Uint16(n.State)
	b.B = append(b.B, n.Flags, n.Type)
}
