// Part of the patch safety/update-check.

package bgp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
)

// This file judges UPDATEs by their bytes alone: what passes is well-formed
// and holds only what was negotiated, so that the decoders meet nothing else,
// and every fault has the ending of RFC 7606.

// UpdateCheck is what a session says about the UPDATEs that may come in it.
type UpdateCheck struct {
	// Families are the negotiated ones.
	Families map[RouteFamily]BGPAddPathMode
	// FourOctetAS: both ends have four-octet AS numbers (RFC 6793).
	FourOctetAS bool
	// External: the peer is in another AS and in no common confederation.
	External bool
}

// rawAttribute is one attribute as it came; all slices are parts of the body.
type rawAttribute struct {
	flags BGPAttrFlag
	typ   BGPAttrType
	value []byte
	all   []byte
}

// updateParts is one UPDATE on its way through the check.
type updateParts struct {
	withdrawn, nlri []byte
	attrs           []rawAttribute
	seen            [256]bool
	others          bool // there was an attribute besides MP_UNREACH_NLRI
	overrun         bool // an attribute ran beyond the end: what follows is lost
	changed         bool // the body must be put together again
	worst           *MessageError
}

// Check judges the body of an UPDATE. It returns the body to decode, which is
// nil if nothing of it is left to act on, and the worst fault: its
// ErrorHandling says whether the session is to be reset, the body's routes are
// to be withdrawn, or only something was left out.
func (c *UpdateCheck) Check(body []byte) ([]byte, *MessageError) {
	u := parts.Get().(*updateParts)
	defer u.release()
	attrs, err := u.split(body)
	if err != nil {
		return nil, err
	}
	if len(body) == 4 {
		return body, nil // End-of-RIB
	}
	if err := c.plainPrefixes(u); err != nil {
		return nil, err
	}
	if err := c.scan(u, attrs); err != nil {
		return nil, err
	}
	c.as4(u)
	c.mandatory(u)
	c.both(u)
	if u.worst != nil && u.worst.ErrorHandling == ERROR_HANDLING_TREAT_AS_WITHDRAW &&
		u.others && len(u.nlri) == 0 && !u.seen[BGP_ATTR_TYPE_MP_REACH_NLRI] {
		// RFC 7606 section 5.2: nothing says that the routes were found.
		u.worst.ErrorHandling = ERROR_HANDLING_SESSION_RESET
		return nil, u.worst
	}
	if !u.changed {
		return body, u.worst
	}
	return u.join(), u.worst
}

// CheckBody is UpdateCheck.Check for a caller that must also build where this
// type does not exist, and so asks for the method.
func (msg *BGPUpdate) CheckBody(body []byte, families map[RouteFamily]BGPAddPathMode, fourOctetAS, external bool) ([]byte, *MessageError) {
	return (&UpdateCheck{families, fourOctetAS, external}).Check(body)
}

// parts are those no check uses: one takes more memory than most UPDATEs.
var parts = sync.Pool{New: func() any { return &updateParts{attrs: make([]rawAttribute, 0, 16)} }}

// release ends the use of u. What the check returned is no part of it.
func (u *updateParts) release() {
	clear(u.attrs)
	*u = updateParts{attrs: u.attrs[:0]}
	parts.Put(u)
}

// split finds the three parts.
func (u *updateParts) split(body []byte) ([]byte, *MessageError) {
	bad := func(what string) *MessageError {
		return updateFault(BGP_ERROR_SUB_MALFORMED_ATTRIBUTE_LIST, nil, ERROR_HANDLING_SESSION_RESET, what)
	}
	if len(body) < 4 {
		return nil, bad("an UPDATE of less than four bytes")
	}
	n := int(binary.BigEndian.Uint16(body))
	if len(body) < 4+n {
		return nil, bad("withdrawn routes beyond the message")
	}
	u.withdrawn = body[2 : 2+n]
	m := int(binary.BigEndian.Uint16(body[2+n:]))
	if len(body) < 4+n+m {
		return nil, bad("attributes beyond the message")
	}
	u.nlri = body[4+n+m:]
	return body[4+n : 4+n+m], nil
}

// plainPrefixes checks the IPv4 routes outside of attributes.
func (c *UpdateCheck) plainPrefixes(u *updateParts) *MessageError {
	if _, ok := c.Families[RF_IPv4_UC]; !ok && len(u.withdrawn)+len(u.nlri) > 0 {
		u.withdrawn, u.nlri, u.changed = nil, nil, true
		u.fault(BGP_ERROR_SUB_MALFORMED_ATTRIBUTE_LIST, nil, ERROR_HANDLING_ATTRIBUTE_DISCARD, "routes of a family that was not negotiated")
	}
	for _, part := range [][]byte{u.withdrawn, u.nlri} {
		if !eachPrefix(part, 32, c.addPath(RF_IPv4_UC), nil) {
			return updateFault(BGP_ERROR_SUB_INVALID_NETWORK_FIELD, nil, ERROR_HANDLING_SESSION_RESET, "malformed IPv4 prefix")
		}
	}
	return nil
}

func (c *UpdateCheck) addPath(f RouteFamily) bool {
	return c.Families[f]&BGP_ADD_PATH_RECEIVE != 0
}

// scan reads the attributes; only a fault that ends the session is returned.
func (c *UpdateCheck) scan(u *updateParts, rest []byte) *MessageError {
	for len(rest) > 0 {
		a, ok := nextAttribute(rest)
		if !ok {
			u.overrun, u.others, u.changed = true, true, true
			u.fault(BGP_ERROR_SUB_MALFORMED_ATTRIBUTE_LIST, nil, ERROR_HANDLING_TREAT_AS_WITHDRAW, "an attribute is cut")
			return nil
		}
		rest = rest[len(a.all):]
		if a.typ != BGP_ATTR_TYPE_MP_UNREACH_NLRI {
			u.others = true
		}
		if u.seen[a.typ] {
			if a.typ == BGP_ATTR_TYPE_MP_REACH_NLRI || a.typ == BGP_ATTR_TYPE_MP_UNREACH_NLRI {
				return updateFault(BGP_ERROR_SUB_MALFORMED_ATTRIBUTE_LIST, nil, ERROR_HANDLING_SESSION_RESET, fmt.Sprintf("attribute %d twice", a.typ))
			}
			u.drop(a, BGP_ERROR_SUB_MALFORMED_ATTRIBUTE_LIST, "a second time")
			continue
		}
		u.seen[a.typ] = true
		if err := c.attribute(u, a); err != nil {
			return err
		}
	}
	return nil
}

func nextAttribute(b []byte) (rawAttribute, bool) {
	if len(b) < 3 {
		return rawAttribute{}, false
	}
	n, head := int(b[2]), 3
	if BGPAttrFlag(b[0])&BGP_ATTR_FLAG_EXTENDED_LENGTH != 0 {
		if len(b) < 4 {
			return rawAttribute{}, false
		}
		n, head = int(binary.BigEndian.Uint16(b[2:])), 4
	}
	if len(b) < head+n {
		return rawAttribute{}, false
	}
	return rawAttribute{BGPAttrFlag(b[0]), BGPAttrType(b[1]), b[head : head+n], b[:head+n]}, true
}

// unusedFlags must be ignored when received (RFC 4271 section 4.3).
const unusedFlags = BGPAttrFlag(0x0f)

// attribute judges one and keeps or drops it.
func (c *UpdateCheck) attribute(u *updateParts, a rawAttribute) *MessageError {
	if a.flags&unusedFlags != 0 {
		a.flags &^= unusedFlags
		u.changed = true
	}
	want, known := PathAttrFlags[a.typ]
	if !known && a.flags&BGP_ATTR_FLAG_OPTIONAL == 0 {
		return updateFault(BGP_ERROR_SUB_UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE, a.all, ERROR_HANDLING_SESSION_RESET, fmt.Sprintf("unknown well-known attribute %d", a.typ))
	}
	if a.typ == BGP_ATTR_TYPE_MP_REACH_NLRI || a.typ == BGP_ATTR_TYPE_MP_UNREACH_NLRI {
		return c.multiprotocol(u, a)
	}
	const bits = BGP_ATTR_FLAG_OPTIONAL | BGP_ATTR_FLAG_TRANSITIVE
	if known && (a.flags^want)&bits != 0 {
		u.withdraw(a, BGP_ERROR_SUB_ATTRIBUTE_FLAGS_ERROR, "flags")
		return nil
	}
	if c.External && internalOnly(a.typ) {
		u.drop(a, BGP_ERROR_SUB_MALFORMED_ATTRIBUTE_LIST, "from another AS")
		return nil
	}
	if sub, handling := c.value(a); handling != ERROR_HANDLING_NONE {
		if handling == ERROR_HANDLING_TREAT_AS_WITHDRAW {
			u.withdraw(a, sub, "value")
		} else {
			u.drop(a, sub, "value")
		}
		return nil
	}
	switch {
	case known && !opaque(a.typ):
		// The Partial bit means something only where unrecognised attributes
		// are passed on.
		if a.flags&BGP_ATTR_FLAG_PARTIAL != 0 && want != bits {
			a.flags &^= BGP_ATTR_FLAG_PARTIAL
			u.changed = true
		}
	case a.flags&BGP_ATTR_FLAG_TRANSITIVE == 0:
		u.changed = true // not recognised and not for others: left out quietly
		return nil
	case a.flags&BGP_ATTR_FLAG_PARTIAL == 0:
		a.flags |= BGP_ATTR_FLAG_PARTIAL
		u.changed = true
	}
	u.attrs = append(u.attrs, a)
	return nil
}

// internalOnly are the attributes that RFC 7606 (7.5, 7.9, 7.10) discards from
// an external peer.
func internalOnly(t BGPAttrType) bool {
	return t == BGP_ATTR_TYPE_LOCAL_PREF || t == BGP_ATTR_TYPE_ORIGINATOR_ID || t == BGP_ATTR_TYPE_CLUSTER_LIST
}

// opaque are the attributes that are passed on without a look inside, see
// GetPathAttribute.
func opaque(t BGPAttrType) bool {
	switch t {
	case BGP_ATTR_TYPE_PMSI_TUNNEL, BGP_ATTR_TYPE_TUNNEL_ENCAP, BGP_ATTR_TYPE_IP6_EXTENDED_COMMUNITIES,
		BGP_ATTR_TYPE_AIGP, BGP_ATTR_TYPE_LS, BGP_ATTR_TYPE_PREFIX_SID:
		return true
	}
	return false
}

// value says what is wrong with a value, and what follows (RFC 7606 section 7,
// RFC 6793, 7607, 8092, 9234).
func (c *UpdateCheck) value(a rawAttribute) (uint8, ErrorHandling) {
	const none, discard, withdraw = ERROR_HANDLING_NONE, ERROR_HANDLING_ATTRIBUTE_DISCARD, ERROR_HANDLING_TREAT_AS_WITHDRAW
	const length = BGP_ERROR_SUB_ATTRIBUTE_LENGTH_ERROR
	v, n := a.value, len(a.value)
	asSize := 2
	if c.FourOctetAS {
		asSize = 4
	}
	multipleOf := func(size int) (uint8, ErrorHandling) {
		if n == 0 || n%size != 0 {
			return length, withdraw
		}
		return 0, none
	}
	switch a.typ {
	case BGP_ATTR_TYPE_ORIGIN:
		if n != 1 {
			return length, withdraw
		}
		if v[0] > BGP_ORIGIN_ATTR_TYPE_INCOMPLETE {
			return BGP_ERROR_SUB_INVALID_ORIGIN_ATTRIBUTE, withdraw
		}
	case BGP_ATTR_TYPE_AS_PATH:
		if !validASPath(v, asSize, c.External) {
			return BGP_ERROR_SUB_MALFORMED_AS_PATH, withdraw
		}
	case BGP_ATTR_TYPE_NEXT_HOP, BGP_ATTR_TYPE_MULTI_EXIT_DISC, BGP_ATTR_TYPE_LOCAL_PREF, BGP_ATTR_TYPE_ORIGINATOR_ID, attrTypeOTC:
		if n != 4 {
			return length, withdraw
		}
	case BGP_ATTR_TYPE_ATOMIC_AGGREGATE:
		if n != 0 {
			return length, discard
		}
	case BGP_ATTR_TYPE_AGGREGATOR:
		if n != asSize+4 {
			return length, discard
		}
		if allZero(v[:asSize]) {
			return BGP_ERROR_SUB_OPTIONAL_ATTRIBUTE_ERROR, discard
		}
	case BGP_ATTR_TYPE_CLUSTER_LIST, BGP_ATTR_TYPE_COMMUNITIES:
		return multipleOf(4)
	case BGP_ATTR_TYPE_EXTENDED_COMMUNITIES:
		return multipleOf(8)
	case BGP_ATTR_TYPE_IP6_EXTENDED_COMMUNITIES:
		return multipleOf(20)
	case BGP_ATTR_TYPE_LARGE_COMMUNITY:
		return multipleOf(12)
	case BGP_ATTR_TYPE_AS4_PATH:
		if c.FourOctetAS || n == 0 || !validASPath(v, 4, false) {
			return BGP_ERROR_SUB_OPTIONAL_ATTRIBUTE_ERROR, discard
		}
	case BGP_ATTR_TYPE_AS4_AGGREGATOR:
		if c.FourOctetAS || n != 8 || allZero(v[:4]) {
			return BGP_ERROR_SUB_OPTIONAL_ATTRIBUTE_ERROR, discard
		}
	}
	return 0, none
}

// attrTypeOTC is Only to Customer (RFC 9234).
const attrTypeOTC = BGPAttrType(35)

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// validASPath reports whether the segments of an AS_PATH are whole, of a known
// type, not empty and without AS 0.
func validASPath(v []byte, size int, external bool) bool {
	for len(v) > 0 {
		if len(v) < 2 || v[1] == 0 || len(v) < 2+int(v[1])*size {
			return false
		}
		switch v[0] {
		case BGP_ASPATH_ATTR_TYPE_SET, BGP_ASPATH_ATTR_TYPE_SEQ:
		case BGP_ASPATH_ATTR_TYPE_CONFED_SEQ, BGP_ASPATH_ATTR_TYPE_CONFED_SET:
			if external { // RFC 5065 section 5
				return false
			}
		default:
			return false
		}
		list := v[2 : 2+int(v[1])*size]
		for i := 0; i < len(list); i += size {
			if allZero(list[i : i+size]) {
				return false
			}
		}
		v = v[2+len(list):]
	}
	return true
}

// multiprotocol judges MP_REACH_NLRI and MP_UNREACH_NLRI. Where the routes of
// a negotiated family cannot be found, the session cannot go on (RFC 4760
// section 7, RFC 7606 sections 5.3, 7.11); other families are left out unread.
func (c *UpdateCheck) multiprotocol(u *updateParts, a rawAttribute) *MessageError {
	bad := func(what string) *MessageError {
		return updateFault(BGP_ERROR_SUB_OPTIONAL_ATTRIBUTE_ERROR, a.all, ERROR_HANDLING_SESSION_RESET, fmt.Sprintf("attribute %d: %s", a.typ, what))
	}
	if len(a.value) < 3 {
		return bad("no family")
	}
	f := AfiSafiToRouteFamily(binary.BigEndian.Uint16(a.value), a.value[2])
	if _, ok := c.Families[f]; !ok {
		u.drop(a, BGP_ERROR_SUB_OPTIONAL_ATTRIBUTE_ERROR, "a family that was not negotiated")
		return nil
	}
	if a.flags&(BGP_ATTR_FLAG_OPTIONAL|BGP_ATTR_FLAG_TRANSITIVE) != BGP_ATTR_FLAG_OPTIONAL {
		u.fault(BGP_ERROR_SUB_ATTRIBUTE_FLAGS_ERROR, a.all, ERROR_HANDLING_TREAT_AS_WITHDRAW, fmt.Sprintf("flags of attribute %d", a.typ))
	}
	if want := BGP_ATTR_FLAG_OPTIONAL | a.flags&BGP_ATTR_FLAG_EXTENDED_LENGTH; a.flags != want {
		a.flags, u.changed = want, true
	}
	at := 3
	if a.typ == BGP_ATTR_TYPE_MP_REACH_NLRI {
		if len(a.value) < 5 || len(a.value) < 5+int(a.value[3]) {
			return bad("next hop beyond the attribute")
		}
		at = 5 + int(a.value[3])
		hop := a.value[4 : at-1]
		if !validHopLength(f, len(hop)) {
			return bad(fmt.Sprintf("next hop of %d bytes", len(hop)))
		}
		if len(hop) == 32 && netip.AddrFrom16([16]byte(hop)).IsUnspecified() && netip.AddrFrom16([16]byte(hop[16:])).IsLinkLocalUnicast() {
			// A neighbour that has no other address (BIRD says so).
			a.value = append([]byte(nil), a.value...)
			copy(a.value[4:20], hop[16:])
			hop = a.value[4 : at-1]
			u.changed = true
		}
		if ip, ok := netip.AddrFromSlice(hop[:min(len(hop), 16)]); ok && (ip.IsUnspecified() || ip.IsMulticast()) {
			u.fault(BGP_ERROR_SUB_OPTIONAL_ATTRIBUTE_ERROR, a.all, ERROR_HANDLING_TREAT_AS_WITHDRAW, fmt.Sprintf("next hop %s", ip))
		}
	}
	if bits, ok := unicastBits[f]; ok && !eachPrefix(a.value[at:], bits, c.addPath(f), nil) {
		return bad("malformed prefix")
	}
	u.attrs = append(u.attrs, a)
	return nil
}

// unicastBits are the address lengths of the families whose prefixes are
// checked here; the decoders judge the others.
var unicastBits = map[RouteFamily]int{RF_IPv4_UC: 32, RF_IPv6_UC: 128}

func validHopLength(f RouteFamily, n int) bool {
	switch f {
	case RF_IPv4_UC: // the IPv6 ones by RFC 8950
		return n == 4 || n == 16 || n == 32
	case RF_IPv6_UC:
		return n == 16 || n == 32
	}
	return true
}

// as4 brings the AS numbers of a two-octet session into four octets, which is
// how they are decoded, and applies RFC 6793 section 4.2.3.
func (c *UpdateCheck) as4(u *updateParts) {
	if c.FourOctetAS {
		return
	}
	aggregator := u.find(BGP_ATTR_TYPE_AGGREGATOR)
	if aggregator == nil || binary.BigEndian.Uint16(aggregator.value) != AS_TRANS {
		u.remove(BGP_ATTR_TYPE_AS4_AGGREGATOR)
		if aggregator != nil {
			u.remove(BGP_ATTR_TYPE_AS4_PATH)
		}
	}
	path := u.find(BGP_ATTR_TYPE_AS_PATH)
	if path == nil {
		u.remove(BGP_ATTR_TYPE_AS4_PATH)
		return
	}
	if len(path.value) == 0 {
		return
	}
	wide := make([]byte, 0, 2*len(path.value))
	for v := path.value; len(v) > 0; v = v[2+2*int(v[1]):] {
		wide = append(wide, v[:2]...)
		for i := 0; i < int(v[1]); i++ {
			wide = append(wide, 0, 0, v[2+2*i], v[3+2*i])
		}
	}
	path.value, u.changed = wide, true
}

// mandatory demands ORIGIN, AS_PATH and NEXT_HOP where there are routes.
func (c *UpdateCheck) mandatory(u *updateParts) {
	need := []BGPAttrType{}
	if len(u.nlri) > 0 {
		need = append(need, BGP_ATTR_TYPE_ORIGIN, BGP_ATTR_TYPE_AS_PATH, BGP_ATTR_TYPE_NEXT_HOP)
	} else if a := u.find(BGP_ATTR_TYPE_MP_REACH_NLRI); a != nil {
		need = append(need, BGP_ATTR_TYPE_ORIGIN, BGP_ATTR_TYPE_AS_PATH)
	}
	for _, t := range need {
		if !u.seen[t] {
			u.fault(BGP_ERROR_SUB_MISSING_WELL_KNOWN_ATTRIBUTE, []byte{byte(t)}, ERROR_HANDLING_TREAT_AS_WITHDRAW, fmt.Sprintf("attribute %d is missing", t))
			return
		}
	}
}

// both takes a prefix that is withdrawn and announced as announced (RFC 4271
// section 4.3): the withdrawal goes.
func (c *UpdateCheck) both(u *updateParts) {
	u.withdrawn = u.without(u.withdrawn, u.nlri, 32, c.addPath(RF_IPv4_UC))
	reach, unreach := u.find(BGP_ATTR_TYPE_MP_REACH_NLRI), u.find(BGP_ATTR_TYPE_MP_UNREACH_NLRI)
	if reach == nil || unreach == nil || string(reach.value[:3]) != string(unreach.value[:3]) {
		return
	}
	f := AfiSafiToRouteFamily(binary.BigEndian.Uint16(reach.value), reach.value[2])
	if bits, ok := unicastBits[f]; ok {
		left := u.without(unreach.value[3:], reach.value[5+int(reach.value[3]):], bits, c.addPath(f))
		if len(left) == 0 && len(unreach.value) > 3 {
			u.remove(BGP_ATTR_TYPE_MP_UNREACH_NLRI)
		} else if len(left) != len(unreach.value)-3 {
			unreach.value = append(unreach.value[:3:3], left...)
		}
	}
}

func (u *updateParts) without(withdrawn, announced []byte, bits int, addPath bool) []byte {
	if len(withdrawn) == 0 || len(announced) == 0 {
		return withdrawn
	}
	known := map[string]bool{}
	eachPrefix(announced, bits, addPath, func(_ []byte, key string) { known[key] = true })
	left := make([]byte, 0, len(withdrawn))
	eachPrefix(withdrawn, bits, addPath, func(p []byte, key string) {
		if !known[key] {
			left = append(left, p...)
		}
	})
	if len(left) == len(withdrawn) {
		return withdrawn
	}
	u.changed = true
	return left
}

// eachPrefix walks over prefixes, and reports whether they are well-formed.
// The key is the prefix without the bits beyond its length.
func eachPrefix(b []byte, bits int, addPath bool, f func(p []byte, key string)) bool {
	id := 0
	if addPath {
		id = 4
	}
	for len(b) > 0 {
		if len(b) < id+1 || int(b[id]) > bits {
			return false
		}
		n := id + 1 + (int(b[id])+7)/8
		if len(b) < n {
			return false
		}
		if f != nil {
			key := append([]byte(nil), b[:n]...)
			if r := b[id] % 8; r != 0 {
				key[n-1] &= 0xff << (8 - r)
			}
			f(b[:n], string(key))
		}
		b = b[n:]
	}
	return true
}
