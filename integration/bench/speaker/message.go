// Package speaker is a minimal BGP speaker for load tests: it opens one iBGP
// session (RFC 4271), sends UPDATEs that were encoded beforehand, and tells
// which prefixes the other side announces. It has no table and no policy, so
// that what is measured is the other side.
//
// It speaks IPv4 unicast with four-octet AS numbers (RFC 6793) only. A Session
// may be written and read by one goroutine each.
package speaker

import (
	"encoding/binary"
	"net/netip"
)

// Message types, RFC 4271 section 4.1.
const (
	typeOpen         = 1
	typeUpdate       = 2
	typeNotification = 3
	typeKeepalive    = 4
)

const (
	headerLen  = 19
	maxMessage = 4096
	holdTime   = 180 // seconds
	localPref  = 100
)

// Path attribute codes and flags, RFC 4271 section 4.3 and RFC 4760.
const (
	attrOrigin      = 1
	attrASPath      = 2
	attrNextHop     = 3
	attrLocalPref   = 5
	attrMPReach     = 14
	flagsTransitive = 0x40
	flagExtended    = 0x10
)

// begin appends a header whose length end fills in.
func begin(b []byte, typ byte) []byte {
	for range 16 {
		b = append(b, 0xff)
	}
	return append(b, 0, 0, typ)
}

func end(b []byte, start int) []byte {
	binary.BigEndian.PutUint16(b[start+16:], uint16(len(b)-start)) //nolint:gosec // at most maxMessage
	return b
}

// appendOpen appends an OPEN with the capabilities of this package.
func appendOpen(b []byte, asn uint32, id netip.Addr) []byte {
	start := len(b)
	b = begin(b, typeOpen)
	short := uint16(23456) // AS_TRANS, RFC 6793
	if asn < 1<<16 {
		short = uint16(asn)
	}
	b = append(b, 4)
	b = binary.BigEndian.AppendUint16(b, short)
	b = binary.BigEndian.AppendUint16(b, holdTime)
	b = append(b, id.AsSlice()...)
	// One optional parameter (RFC 5492) with two capabilities: multiprotocol
	// IPv4 unicast, four-octet AS.
	b = append(b, 14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4)
	b = binary.BigEndian.AppendUint32(b, asn)
	return end(b, start)
}

func appendKeepalive(b []byte) []byte {
	start := len(b)
	return end(begin(b, typeKeepalive), start)
}

// AppendUpdate appends UPDATEs that announce prefixes with one next hop, as
// many prefixes per message as fit, at most per.
func AppendUpdate(b []byte, nextHop netip.Addr, prefixes []netip.Prefix, per int) []byte {
	for len(prefixes) > 0 {
		start := len(b)
		b = begin(b, typeUpdate)
		b = append(b, 0, 0) // nothing withdrawn
		attrs := len(b)
		b = append(b, 0, 0)
		b = append(b, flagsTransitive, attrOrigin, 1, 0)
		b = append(b, flagsTransitive, attrASPath, 0) // empty: iBGP
		b = append(b, flagsTransitive, attrNextHop, 4)
		b = append(b, nextHop.AsSlice()...)
		b = append(b, flagsTransitive, attrLocalPref, 4)
		b = binary.BigEndian.AppendUint32(b, localPref)
		binary.BigEndian.PutUint16(b[attrs:], uint16(len(b)-attrs-2)) //nolint:gosec // some 30 bytes
		b, prefixes = appendNLRI(b, start, prefixes, per)
		b = end(b, start)
	}
	return b
}

// AppendWithdraw appends UPDATEs that withdraw prefixes, full messages.
func AppendWithdraw(b []byte, prefixes []netip.Prefix) []byte {
	for len(prefixes) > 0 {
		start := len(b)
		b = begin(b, typeUpdate)
		length := len(b)
		b = append(b, 0, 0)
		b, prefixes = appendNLRI(b, start-2, prefixes, maxMessage)      // two bytes for the attributes' length
		binary.BigEndian.PutUint16(b[length:], uint16(len(b)-length-2)) //nolint:gosec // at most maxMessage
		b = append(b, 0, 0)
		b = end(b, start)
	}
	return b
}

// AppendEndOfRIB appends the End-of-RIB marker of IPv4 unicast (RFC 4724
// section 2).
func AppendEndOfRIB(b []byte) []byte {
	start := len(b)
	b = begin(b, typeUpdate)
	return end(append(b, 0, 0, 0, 0), start)
}

// appendNLRI appends prefixes until the message that starts at start is full
// or has per of them, and returns the rest.
func appendNLRI(b []byte, start int, prefixes []netip.Prefix, per int) ([]byte, []netip.Prefix) {
	n := 0
	for ; n < len(prefixes) && n < per && len(b)-start+5 <= maxMessage; n++ {
		p := prefixes[n]
		a := p.Addr().As4()
		b = append(b, byte(p.Bits()))
		b = append(b, a[:(p.Bits()+7)/8]...)
	}
	return b, prefixes[n:]
}

// announced yields the IPv4 prefixes that the body of an UPDATE announces. A
// body that is not well formed ends the sequence early.
func announced(body []byte, yield func(netip.Prefix)) {
	skipped, rest, ok := cut(body, 2)
	_ = skipped
	if !ok {
		return
	}
	attrs, nlri, ok := cut(rest, 2)
	if !ok {
		return
	}
	for len(attrs) >= 3 {
		code, width := attrs[1], 1
		if attrs[0]&flagExtended != 0 {
			width = 2
		}
		value, after, ok := cut(attrs[2:], width)
		if !ok {
			return
		}
		// AFI 1, SAFI 1, next hop, a reserved octet, NLRI.
		if code == attrMPReach && len(value) > 4 && value[1] == 1 && value[2] == 1 && len(value) > 5+int(value[3]) {
			eachNLRI(value[5+int(value[3]):], yield)
		}
		attrs = after
	}
	eachNLRI(nlri, yield)
}

// withdrawn yields the IPv4 prefixes that the body of an UPDATE withdraws, in the
// field of RFC 4271 section 4.3. A body that is not well formed ends the sequence early.
func withdrawn(body []byte, yield func(netip.Prefix)) {
	if nlri, _, ok := cut(body, 2); ok {
		eachNLRI(nlri, yield)
	}
}

// cut splits what a length of width octets in front of b says.
func cut(b []byte, width int) (value, rest []byte, ok bool) {
	if len(b) < width {
		return nil, nil, false
	}
	n := int(b[0])
	if width == 2 {
		n = int(binary.BigEndian.Uint16(b))
	}
	if len(b) < width+n {
		return nil, nil, false
	}
	return b[width : width+n], b[width+n:], true
}

func eachNLRI(b []byte, yield func(netip.Prefix)) {
	for len(b) > 0 {
		bits := int(b[0])
		n := (bits + 7) / 8
		if bits > 32 || len(b) < 1+n {
			return
		}
		var a [4]byte
		copy(a[:], b[1:1+n])
		yield(netip.PrefixFrom(netip.AddrFrom4(a), bits))
		b = b[1+n:]
	}
}
