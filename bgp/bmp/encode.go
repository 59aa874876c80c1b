package bmp

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// This file encodes the messages of RFC 7854 section 4 and RFC 9069. Each function
// appends one to a buffer.

// Types of messages (RFC 7854 section 4.1).
const (
	routeMonitoring = 0
	statsReport     = 1
	peerDown        = 2
	peerUp          = 3
	initiation      = 4
	termination     = 5
)

const (
	version = 3
	headLen = 6 // version, length, type
)

// Peer types and flags (RFC 7854 section 4.2, RFC 9069 section 4.1). The flag A stays
// clear: all AS_PATH attributes have numbers of four octets. So does F of a Loc-RIB:
// all of it is sent.
const (
	globalPeer = 0
	locRIBPeer = 3

	flagIPv6       = 1 << 7 // V
	flagPostPolicy = 1 << 6 // L
)

// Types of information TLVs (RFC 7854 sections 4.4 and 4.5, RFC 9069 section 4.3).
const (
	sysDescr  = 1
	sysName   = 2
	tableName = 3

	endReason = 1 // of a termination
)

// Reasons of a termination (RFC 7854 section 4.5).
const (
	closedForNow  = 0
	closedForGood = 4
)

// Reasons of a Peer Down (RFC 7854 section 4.9).
const (
	localNotification  = 1
	localEvent         = 2
	remoteNotification = 3
	remoteSilent       = 4
)

// Types of statistics (RFC 7854 section 4.8).
const (
	statReceived       = 7
	statBest           = 8
	statReceivedFamily = 9
	statBestFamily     = 10
	statTreatedAs      = 11 // updates treated as withdrawals
)

// defaultTable is the name of the Loc-RIB (RFC 9069 section 5.2.1).
const defaultTable = "global"

// maxText bounds a TLV's text, whose length has two octets; collectors keep it.
const maxText = 255

// message appends one message around the bytes that body appends.
func message(b []byte, kind byte, body func([]byte) []byte) []byte {
	start := len(b)
	b = append(b, version, 0, 0, 0, 0, kind)
	b = body(b)
	binary.BigEndian.PutUint32(b[start+1:], uint32(len(b)-start)) //nolint:gosec // a message is some kilobytes
	return b
}

func tlv(b []byte, kind uint16, value []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value))) //nolint:gosec // bounded by maxText and the callers
	return append(b, value...)
}

func textTLV(b []byte, kind uint16, text string) []byte {
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "")
	}
	return tlv(b, kind, []byte(text))
}

// appendInitiation appends the first message of a connection.
func appendInitiation(b []byte, name, descr string) []byte {
	return message(b, initiation, func(b []byte) []byte {
		return textTLV(textTLV(b, sysDescr, descr), sysName, name)
	})
}

// appendTermination appends the last one.
func appendTermination(b []byte, reason uint16) []byte {
	return message(b, termination, func(b []byte) []byte {
		return tlv(b, endReason, binary.BigEndian.AppendUint16(nil, reason))
	})
}

// instance is what a per-peer header names: a peer, or the Loc-RIB.
type instance struct {
	kind     byte
	addr     netip.Addr // the zero Addr for the Loc-RIB
	asn      uint32
	routerID netip.Addr
}

// header appends the per-peer header (RFC 7854 section 4.2) of routes of a view. The
// zero Time stands for a time that is not known.
func (i *instance) header(b []byte, view View, at time.Time) []byte {
	var flags byte
	if i.addr.Is6() {
		flags |= flagIPv6
	}
	if view == Accepted {
		flags |= flagPostPolicy
	}
	b = append(b, i.kind, flags)
	b = append(b, make([]byte, 8)...) // the default instance has no distinguisher
	b = appendAddr(b, i.addr)
	b = binary.BigEndian.AppendUint32(b, i.asn)
	id := [4]byte{}
	if i.routerID.Is4() {
		id = i.routerID.As4()
	}
	b = append(b, id[:]...)
	if at.IsZero() {
		return append(b, make([]byte, 8)...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(at.Unix()))               //nolint:gosec // the format ends in 2106
	return binary.BigEndian.AppendUint32(b, uint32(at.Nanosecond()/1000)) //nolint:gosec // below a million
}

// appendAddr appends an address in 16 octets, an IPv4 one in the last four.
func appendAddr(b []byte, a netip.Addr) []byte {
	out := [16]byte{}
	switch {
	case a.Is4():
		four := a.As4()
		copy(out[12:], four[:])
	case a.Is6():
		out = a.As16()
	}
	return append(b, out[:]...)
}

// appendRoutes appends a Route Monitoring message with an UPDATE.
func (i *instance) appendRoutes(b []byte, view View, u Update) []byte {
	at := u.At
	if at.IsZero() {
		at = time.Now() // it withdraws
	}
	return message(b, routeMonitoring, func(b []byte) []byte { return append(i.header(b, view, at), u.Message...) })
}

// appendEndOfRIB appends the marker that all routes of a family were sent.
func (i *instance) appendEndOfRIB(b []byte, view View, f Family) []byte {
	return i.appendRoutes(b, view, Update{Message: endOfRIB(f), At: time.Now()})
}

// appendUp appends a Peer Up message (RFC 7854 section 4.10).
func (i *instance) appendUp(b []byte, s *Session, table string) []byte {
	return message(b, peerUp, func(b []byte) []byte {
		b = i.header(b, "", s.Since)
		b = appendAddr(b, s.Local.Addr())
		b = binary.BigEndian.AppendUint16(b, s.Local.Port())
		b = binary.BigEndian.AppendUint16(b, s.Remote.Port())
		b = append(append(b, s.SentOpen...), s.ReceivedOpen...)
		if table != "" {
			b = textTLV(b, tableName, table)
		}
		return b
	})
}

// appendDown appends a Peer Down message (RFC 7854 section 4.9).
func (i *instance) appendDown(b []byte, end End) []byte {
	return message(b, peerDown, func(b []byte) []byte {
		b = i.header(b, "", time.Now())
		switch {
		case end.Local && end.Notification != nil:
			return append(append(b, localNotification), end.Notification...)
		case end.Local:
			return binary.BigEndian.AppendUint16(append(b, localEvent), end.Event)
		case end.Notification != nil:
			return append(append(b, remoteNotification), end.Notification...)
		}
		return append(b, remoteSilent)
	})
}

// stats are the TLVs of a statistics report.
type stats struct {
	count uint32
	tlvs  []byte
}

func (s *stats) add(kind uint16, value []byte) {
	s.count++
	s.tlvs = tlv(s.tlvs, kind, value)
}

// families adds the sum of counts, and each of them.
func (s *stats) families(sum, each uint16, counts map[Family]uint64) {
	total := uint64(0)
	for _, n := range counts {
		total += n
	}
	s.add(sum, binary.BigEndian.AppendUint64(nil, total))
	for _, f := range []Family{IPv4, IPv6} {
		if n, carried := counts[f]; carried {
			value := append(binary.BigEndian.AppendUint16(nil, uint16(f)), safiUnicast)
			s.add(each, binary.BigEndian.AppendUint64(value, n))
		}
	}
}

// treatedAsWithdraw adds a count of 32 bits, which begins anew when they are full.
func (s *stats) treatedAsWithdraw(n uint64) {
	s.add(statTreatedAs, binary.BigEndian.AppendUint32(nil, uint32(n))) //nolint:gosec // the format has 32 bits
}

// appendStats appends a statistics report.
func (i *instance) appendStats(b []byte, s *stats) []byte {
	return message(b, statsReport, func(b []byte) []byte {
		b = i.header(b, "", time.Now())
		return append(binary.BigEndian.AppendUint32(b, s.count), s.tlvs...)
	})
}

// The parts of BGP messages that this package makes itself: markers, and the OPEN of a
// table, which no session has.
const (
	bgpHeadLen  = 19
	bgpOpen     = 1
	bgpUpdate   = 2
	safiUnicast = 1
	asTrans     = 23456 // stands for an AS number of four octets (RFC 6793)

	optCapabilities = 2 // parameter of an OPEN (RFC 5492)
	capFamily       = 1
	capFourOctetAS  = 65

	attrOptional = 0x80
	attrUnreach  = 15 // MP_UNREACH_NLRI
)

// bgpMessage returns a message of BGP (RFC 4271 section 4.1).
func bgpMessage(kind byte, body []byte) []byte {
	b := slices.Repeat([]byte{0xff}, 16)
	b = binary.BigEndian.AppendUint16(b, uint16(bgpHeadLen+len(body))) //nolint:gosec // some dozens of bytes
	return append(append(b, kind), body...)
}

// endOfRIB returns the End-of-RIB marker of a family (RFC 4724 section 2).
func endOfRIB(f Family) []byte {
	if f == IPv4 {
		return bgpMessage(bgpUpdate, []byte{0, 0, 0, 0})
	}
	body := []byte{0, 0, 0, 6, attrOptional, attrUnreach, 3}
	return bgpMessage(bgpUpdate, append(binary.BigEndian.AppendUint16(body, uint16(f)), safiUnicast))
}

// tableOpen returns the OPEN of a Loc-RIB, which has the capabilities that its routes
// need (RFC 9069 section 5.2).
func tableOpen(asn uint32, routerID netip.Addr) []byte {
	var caps []byte
	for _, f := range []Family{IPv4, IPv6} {
		caps = append(binary.BigEndian.AppendUint16(append(caps, capFamily, 4), uint16(f)), 0, safiUnicast)
	}
	caps = binary.BigEndian.AppendUint32(append(caps, capFourOctetAS, 4), asn)
	short := uint16(asTrans)
	if asn <= 0xffff {
		short = uint16(asn)
	}
	body := binary.BigEndian.AppendUint16([]byte{4}, short)
	body = append(body, 0, 0) // no hold time
	id := routerID.As4()
	body = append(body, id[:]...)
	body = append(body, byte(len(caps)+2), optCapabilities, byte(len(caps))) //nolint:gosec // 18
	return bgpMessage(bgpOpen, append(body, caps...))
}
