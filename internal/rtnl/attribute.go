package rtnl

import (
	"iter"
	"net/netip"

	"golang.org/x/sys/unix"
)

// typeMask is NLA_TYPE_MASK: without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const typeMask = 0x3fff

// Attributes are those behind a message's fixed part, or inside another
// attribute (struct rtattr).
type Attributes []byte

// Next cuts off the first attribute and returns its type, without flags, and
// its value. It returns false at the end, and at a length that does not fit.
func (b *Attributes) Next() (kind uint16, value []byte, ok bool) {
	d := *b
	if len(d) < unix.SizeofRtAttr {
		return 0, nil, false
	}
	n := int(native.Uint16(d))
	if n < unix.SizeofRtAttr || n > len(d) {
		return 0, nil, false
	}
	*b = d[min(align(n), len(d)):]
	return native.Uint16(d[2:]) & typeMask, d[unix.SizeofRtAttr:n], true
}

// All yields the attributes, as [Attributes.Next] does.
func (b Attributes) All() iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for {
			if kind, value, ok := b.Next(); !ok || !yield(kind, value) {
				return
			}
		}
	}
}

// Uint16 reads a number; a value that is too short is 0.
func Uint16(b []byte) uint16 {
	if len(b) < 2 {
		return 0
	}
	return native.Uint16(b)
}

// Uint32 reads a number; a value that is too short is 0.
func Uint32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return native.Uint32(b)
}

// Index reads the index of a device, which the kernel keeps as an int; a value
// that is too short is 0, which no device has.
func Index(b []byte) int32 { return int32(Uint32(b)) }

// String reads a string up to its terminator, or to the end without one.
func String(b []byte) string { return unix.ByteSliceToString(b) }

// Addr reads an address of 4 or 16 bytes; another length is the zero Addr.
func Addr(b []byte) netip.Addr {
	switch len(b) {
	case 4:
		return netip.AddrFrom4([4]byte(b))
	case 16:
		return netip.AddrFrom16([16]byte(b))
	}
	return netip.Addr{}
}
