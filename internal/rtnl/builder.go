package rtnl

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Builder appends messages to one buffer. The zero value is ready; a caller
// that keeps one and empties B (b.B = b.B[:0]) builds without allocating.
type Builder struct {
	B []byte // the messages
}

// Begin appends the header of a request and returns where it starts, for
// [Builder.End]. flags are NLM_F_*; NLM_F_REQUEST is added.
func (b *Builder) Begin(kind, flags uint16, seq uint32) (start int) {
	start = len(b.B)
	b.B = append(b.B, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	h := (*[unix.SizeofNlMsghdr]byte)(b.B[start:]) // the length comes last; the port is for the kernel to fill in
	native.PutUint16(h[4:], kind)
	native.PutUint16(h[6:], flags|unix.NLM_F_REQUEST)
	native.PutUint32(h[8:], seq)
	return start
}

// End fills in the length of the message that starts at start.
func (b *Builder) End(start int) {
	native.PutUint32(b.B[start:], uint32(len(b.B)-start))
}

// AskAck requests the kernel's acknowledgement of the message that starts at
// start also when it succeeds; an error is always sent.
func (b *Builder) AskAck(start int) {
	const flagsAt = 6
	native.PutUint16(b.B[start+flagsAt:], native.Uint16(b.B[start+flagsAt:])|unix.NLM_F_ACK)
}

// Uint16 appends a number.
func (b *Builder) Uint16(v uint16) { b.B = native.AppendUint16(b.B, v) }

// Uint32 appends a number.
func (b *Builder) Uint32(v uint32) { b.B = native.AppendUint32(b.B, v) }

// Addr appends the bytes of an address.
func (b *Builder) Addr(a netip.Addr) {
	if a.Is4() {
		v := a.As4()
		b.B = append(b.B, v[:]...)
		return
	}
	v := a.As16()
	b.B = append(b.B, v[:]...)
}

// Attr appends an attribute of at most 65,531 bytes, padded.
func (b *Builder) Attr(kind uint16, value []byte) {
	b.Uint16(uint16(unix.SizeofRtAttr + len(value)))
	b.Uint16(kind)
	b.B = append(b.B, value...)
	b.pad()
}

// attr4 appends an attribute of four bytes and returns where they go. It makes
// room once: with an append for each part the checks of the capacity were most
// of what a route cost.
func (b *Builder) attr4(kind uint16) *[4]byte {
	at := len(b.B)
	b.B = append(b.B, 0, 0, 0, 0, 0, 0, 0, 0)
	d := (*[unix.SizeofRtAttr + 4]byte)(b.B[at:])
	native.PutUint16(d[0:], unix.SizeofRtAttr+4)
	native.PutUint16(d[2:], kind)
	return (*[4]byte)(d[unix.SizeofRtAttr:])
}

// AttrUint32 appends an attribute that is a number.
func (b *Builder) AttrUint32(kind uint16, v uint32) { native.PutUint32(b.attr4(kind)[:], v) }

// AttrString appends an attribute that is a string, with its terminator.
func (b *Builder) AttrString(kind uint16, s string) { b.Attr(kind, append([]byte(s), 0)) }

// AttrAddr appends an attribute that is an address.
func (b *Builder) AttrAddr(kind uint16, a netip.Addr) {
	if a.Is4() {
		*b.attr4(kind) = a.As4()
		return
	}
	b.Uint16(uint16(unix.SizeofRtAttr + a.BitLen()/8))
	b.Uint16(kind)
	b.Addr(a)
}

// Nest appends an attribute that holds the attributes inner appends.
func (b *Builder) Nest(kind uint16, inner func()) {
	at := b.Open(kind | unix.NLA_F_NESTED)
	inner()
	b.Close(at)
}

// Open begins an attribute whose value is appended next, and returns its start
// for [Builder.Close].
func (b *Builder) Open(kind uint16) (at int) {
	at = len(b.B)
	b.Uint16(0)
	b.Uint16(kind)
	return at
}

// Close fills in the length of the attribute that starts at at.
func (b *Builder) Close(at int) {
	native.PutUint16(b.B[at:], uint16(len(b.B)-at))
}

// pad appends zeros up to the next multiple of four.
func (b *Builder) pad() {
	for len(b.B)%4 != 0 {
		b.B = append(b.B, 0)
	}
}

// Family returns AF_INET or AF_INET6.
func Family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
