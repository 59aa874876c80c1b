// Part of the patch fanout/update-groups.

package server

import (
	"encoding/binary"
	"fmt"

	"github.com/osrg/gobgp/v3/internal/pkg/table"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

const (
	updateHead = bgp.BGP_HEADER_LENGTH + 2 + 2 // header and the two lengths of an UPDATE
	mpHead     = 4                             // flags, type and length of an attribute
	mpFlags    = byte(bgp.BGP_ATTR_FLAG_OPTIONAL | bgp.BGP_ATTR_FLAG_EXTENDED_LENGTH)
)

// encodeAttrs encodes a path's attributes for a kind of session. why says what
// makes that impossible.
func encodeAttrs(path *table.Path, f bgp.RouteFamily, session outSession) (attrs *outAttrs, why string) {
	a := &outAttrs{}
	hop, linkLocal := path.NextHops()
	reach := f != bgp.RF_IPv4_UC || hop.To4() == nil // RFC 4760, RFC 8950
	hopThere := false
	for _, attr := range session.attrsFor(path) {
		switch attr := attr.(type) {
		case *bgp.PathAttributeMpReachNLRI:
			if reach {
				hop, linkLocal = attr.Nexthop, attr.LinkLocalNexthop
			}
			continue
		case *bgp.PathAttributeMpUnreachNLRI:
			continue
		case *bgp.PathAttributeNextHop:
			if reach {
				continue
			}
			hopThere = true
		}
		b, err := attr.Serialize()
		if err != nil {
			return nil, fmt.Sprintf("attribute %d: %v", attr.GetType(), err)
		}
		a.attrs = append(a.attrs, b...)
	}
	if reach {
		afi, safi := bgp.RouteFamilyToAfiSafi(f)
		a.reach = binary.BigEndian.AppendUint16(nil, afi)
		if hop.To16() == nil {
			return nil, "it has no next hop"
		}
		if fault := session.hopFault(f, hop); fault != "" {
			return nil, fault
		}
		a.reach = append(a.reach, safi, 16)
		a.reach = append(a.reach, hop.To16()...)
		if linkLocal.IsLinkLocalUnicast() {
			a.reach[3] = 32
			a.reach = append(a.reach, linkLocal.To16()...)
		}
		a.reach = append(a.reach, 0)
	} else if !hopThere {
		b, _ := bgp.NewPathAttributeNextHop(hop.String()).Serialize()
		a.attrs = append(a.attrs, b...)
	}
	a.key = string(a.reach) + string(a.attrs)
	return a, ""
}

// updateOverhead is the length of a message without its prefixes; nil: of one
// that withdraws.
func updateOverhead(a *outAttrs) int {
	switch {
	case a == nil:
		return updateHead + mpHead + 3
	case a.reach != nil:
		return updateHead + mpHead + len(a.reach) + len(a.attrs)
	}
	return updateHead + len(a.attrs)
}

// updateWriter appends UPDATE messages to a buffer. Neighbouring prefixes with
// the same attributes share a message.
type updateWriter struct {
	buf    []byte
	family bgp.RouteFamily
	msgs   int

	open  bool
	start int       // of the open message
	attrs *outAttrs // of the open message; nil: it withdraws
	room  int       // bytes left for prefixes
}

func (w *updateWriter) add(t tell) {
	n := int(t.prefix.bits+7) / 8
	if !w.open || w.attrs != t.attrs || w.room < 1+n {
		w.end()
		w.begin(t.attrs)
	}
	w.buf = append(w.buf, t.prefix.bits)
	w.buf = append(w.buf, t.prefix.addr[:n]...)
	w.room -= 1 + n
}

// classic reports whether the open message's prefixes stand in the fields of
// the UPDATE itself (RFC 4271 section 4.3) and not in an attribute.
func (w *updateWriter) classic() bool {
	if w.attrs == nil {
		return w.family == bgp.RF_IPv4_UC
	}
	return w.attrs.reach == nil
}

func (w *updateWriter) header() {
	w.open, w.start = true, len(w.buf)
	for range bgp.BGP_HEADER_LENGTH - 3 {
		w.buf = append(w.buf, 0xff)
	}
	w.buf = append(w.buf, 0, 0, bgp.BGP_MSG_UPDATE, 0, 0)
}

func (w *updateWriter) begin(a *outAttrs) {
	w.attrs, w.room = a, bgp.BGP_MAX_MESSAGE_LENGTH-updateOverhead(a)
	w.header()
	switch {
	case a != nil && w.classic():
		w.buf = binary.BigEndian.AppendUint16(w.buf, uint16(len(a.attrs)))
		w.buf = append(w.buf, a.attrs...)
	case a != nil:
		w.buf = append(w.buf, 0, 0, mpFlags, byte(bgp.BGP_ATTR_TYPE_MP_REACH_NLRI), 0, 0)
		w.buf = append(w.buf, a.reach...)
	case !w.classic():
		afi, safi := bgp.RouteFamilyToAfiSafi(w.family)
		w.buf = append(w.buf, 0, 0, mpFlags, byte(bgp.BGP_ATTR_TYPE_MP_UNREACH_NLRI), 0, 0)
		w.buf = binary.BigEndian.AppendUint16(w.buf, afi)
		w.buf = append(w.buf, safi)
	}
}

// end completes the open message, if there is one.
func (w *updateWriter) end() {
	if !w.open {
		return
	}
	w.open = false
	w.msgs++
	switch {
	case !w.classic():
		w.putLen(updateHead+2, len(w.buf)-w.start-updateHead-mpHead)
		if w.attrs != nil {
			w.buf = append(w.buf, w.attrs.attrs...)
		}
		w.putLen(updateHead-2, len(w.buf)-w.start-updateHead)
	case w.attrs == nil:
		w.putLen(bgp.BGP_HEADER_LENGTH, len(w.buf)-w.start-bgp.BGP_HEADER_LENGTH-2)
		w.buf = append(w.buf, 0, 0)
	}
	w.putLen(bgp.BGP_HEADER_LENGTH-3, len(w.buf)-w.start)
}

// putLen writes a length at an offset of the open message.
func (w *updateWriter) putLen(at, n int) {
	binary.BigEndian.PutUint16(w.buf[w.start+at:], uint16(n))
}

// endOfRIB appends the End-of-RIB of the family (RFC 4724 section 2).
func (w *updateWriter) endOfRIB() {
	w.end()
	w.attrs = nil
	w.header()
	if w.classic() {
		w.buf = append(w.buf, 0, 0)
	} else {
		afi, safi := bgp.RouteFamilyToAfiSafi(w.family)
		w.buf = append(w.buf, 0, 6, byte(bgp.BGP_ATTR_FLAG_OPTIONAL), byte(bgp.BGP_ATTR_TYPE_MP_UNREACH_NLRI), 3)
		w.buf = binary.BigEndian.AppendUint16(w.buf, afi)
		w.buf = append(w.buf, safi)
	}
	w.open = false
	w.msgs++
	w.putLen(bgp.BGP_HEADER_LENGTH-3, len(w.buf)-w.start)
}
