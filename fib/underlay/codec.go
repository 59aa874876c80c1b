package underlay

import (
	"encoding/binary"
	"iter"
	"net/netip"

	"golang.org/x/sys/unix"
)

// native is the byte order of netlink messages (netlink(7)).
var native = binary.NativeEndian

// message is one netlink message: its type, flags and what follows the header.
type message struct {
	kind  uint16
	flags uint16
	seq   uint32
	body  []byte
}

// align rounds a length up to netlink's and rtnetlink's four bytes.
func align(n int) int { return (n + 3) &^ 3 }

// messages yields the messages of one datagram; a length that does not fit
// ends it.
func messages(b []byte) iter.Seq[message] {
	return func(yield func(message) bool) {
		for len(b) >= unix.SizeofNlMsghdr {
			n := int(native.Uint32(b))
			if n < unix.SizeofNlMsghdr || n > len(b) {
				return
			}
			m := message{
				kind:  native.Uint16(b[4:]),
				flags: native.Uint16(b[6:]),
				seq:   native.Uint32(b[8:]),
				body:  b[unix.SizeofNlMsghdr:n],
			}
			if !yield(m) {
				return
			}
			b = b[min(align(n), len(b)):]
		}
	}
}

// attrs yields type and payload of rtnetlink attributes (rtnetlink(3)); a
// length that does not fit ends them. The nested and byte-order flags are
// cleared from the type.
func attrs(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			n := int(native.Uint16(b))
			if n < unix.SizeofRtAttr || n > len(b) {
				return
			}
			kind := native.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(kind, b[unix.SizeofRtAttr:n]) {
				return
			}
			b = b[min(align(n), len(b)):]
		}
	}
}

// u32 reads an attribute's number; one that is too short is 0.
func u32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return native.Uint32(b)
}

// i32 reads an interface index.
func i32(b []byte) int32 { return int32(u32(b)) } //nolint:gosec // the kernel's own int

// address reads an attribute's IPv4 or IPv6 address; another length yields the
// zero Addr.
func address(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

// viaAddress reads RTA_VIA: an address family and a gateway of that family.
func viaAddress(b []byte) netip.Addr {
	if len(b) < 2 {
		return netip.Addr{}
	}
	return address(b[2:])
}

// prefixOf makes a prefix of the family's address and length; a missing
// address is the default route's.
func prefixOf(family byte, a netip.Addr, bits int) netip.Prefix {
	if !a.IsValid() {
		switch family {
		case unix.AF_INET:
			a = netip.IPv4Unspecified()
		case unix.AF_INET6:
			a = netip.IPv6Unspecified()
		}
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// request builds a message: header, fixed part.
func request(kind, flags uint16, seq uint32, fixed []byte) []byte {
	b := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(fixed))
	native.PutUint32(b, uint32(unix.SizeofNlMsghdr+len(fixed))) //nolint:gosec // a few bytes
	native.PutUint16(b[4:], kind)
	native.PutUint16(b[6:], flags|unix.NLM_F_REQUEST)
	native.PutUint32(b[8:], seq)
	return append(b, fixed...)
}
