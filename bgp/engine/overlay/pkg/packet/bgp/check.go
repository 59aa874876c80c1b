// Part of the patch safety/header-state-open.

package bgp

import (
	"encoding/binary"
	"fmt"
)

// This file judges what a peer sent by its bytes alone, before any decoder
// sees it, and gives every fault the ending of RFC 4271 section 6.

// CheckHeader reports the first fault of a message's header (RFC 4271
// section 6.1). A ROUTE-REFRESH of a wrong length has a code of its own.
func CheckHeader(b []byte) error {
	for _, v := range b[:16] {
		if v != 0xff {
			return NewMessageError(BGP_ERROR_MESSAGE_HEADER_ERROR, BGP_ERROR_SUB_CONNECTION_NOT_SYNCHRONIZED, nil, "marker is not all ones")
		}
	}
	n := binary.BigEndian.Uint16(b[16:18])
	bad := func() error {
		return NewMessageError(BGP_ERROR_MESSAGE_HEADER_ERROR, BGP_ERROR_SUB_BAD_MESSAGE_LENGTH, b[16:18:18], fmt.Sprintf("bad length %d for message type %d", n, b[18]))
	}
	if n < BGP_HEADER_LENGTH || n > BGP_MAX_MESSAGE_LENGTH {
		return bad()
	}
	ok := true
	switch b[18] {
	case BGP_MSG_OPEN:
		ok = n >= 29
	case BGP_MSG_UPDATE:
		ok = n >= 23
	case BGP_MSG_NOTIFICATION:
		ok = n >= 21
	case BGP_MSG_KEEPALIVE:
		ok = n == BGP_HEADER_LENGTH
	case BGP_MSG_ROUTE_REFRESH:
		if n != BGP_HEADER_LENGTH+4 {
			return NewMessageError(BGP_ERROR_ROUTE_REFRESH_MESSAGE_ERROR, BGP_ERROR_SUB_INVALID_MESSAGE_LENGTH, b[:BGP_HEADER_LENGTH:BGP_HEADER_LENGTH], "bad length of a ROUTE-REFRESH")
		}
	default:
		return NewMessageError(BGP_ERROR_MESSAGE_HEADER_ERROR, BGP_ERROR_SUB_BAD_MESSAGE_TYPE, b[18:19:19], fmt.Sprintf("unknown message type %d", b[18]))
	}
	if !ok {
		return bad()
	}
	return nil
}

// CheckState reports a message that may not come in a state (RFC 4271 section
// 8.2.2, the subcodes from RFC 6608).
func CheckState(typ uint8, state FSMState) error {
	var sub uint8
	ok := typ == BGP_MSG_NOTIFICATION
	switch state {
	case BGP_FSM_OPENSENT:
		sub, ok = BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_OPENSENT_STATE, ok || typ == BGP_MSG_OPEN
	case BGP_FSM_OPENCONFIRM:
		sub, ok = BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_OPENCONFIRM_STATE, ok || typ == BGP_MSG_KEEPALIVE
	case BGP_FSM_ESTABLISHED:
		sub, ok = BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_ESTABLISHED_STATE, typ != BGP_MSG_OPEN
	default:
		ok = true
	}
	if ok {
		return nil
	}
	return NewMessageError(BGP_ERROR_FSM_ERROR, sub, nil, fmt.Sprintf("message type %d in state %s", typ, state))
}

// CheckOpen reports the first fault of an OPEN's body that does not depend on
// who the peer should be (RFC 4271 section 6.2, RFC 5492, RFC 7607).
func CheckOpen(body []byte) error {
	if len(body) < 10 {
		return NewMessageError(BGP_ERROR_MESSAGE_HEADER_ERROR, BGP_ERROR_SUB_BAD_MESSAGE_LENGTH, nil, "an OPEN of less than ten bytes")
	}
	fault := func(sub uint8, data []byte, why string) error {
		return NewMessageError(BGP_ERROR_OPEN_MESSAGE_ERROR, sub, data, why)
	}
	if body[0] != 4 {
		return fault(BGP_ERROR_SUB_UNSUPPORTED_VERSION_NUMBER, []byte{0, 4}, fmt.Sprintf("version %d", body[0]))
	}
	if binary.BigEndian.Uint16(body[1:3]) == 0 {
		return fault(BGP_ERROR_SUB_BAD_PEER_AS, nil, "AS 0")
	}
	rest := body[10:]
	if len(rest) != int(body[9]) {
		return fault(0, nil, "the length of the optional parameters is not that of the message")
	}
	for len(rest) > 0 {
		if len(rest) < 2 || len(rest) < 2+int(rest[1]) {
			return fault(0, nil, "an optional parameter is cut")
		}
		typ, value := rest[0], rest[2:2+int(rest[1])]
		if typ != BGP_OPT_CAPABILITY {
			return fault(BGP_ERROR_SUB_UNSUPPORTED_OPTIONAL_PARAMETER, nil, fmt.Sprintf("optional parameter %d", typ))
		}
		for len(value) > 0 {
			if len(value) < 2 || len(value) < 2+int(value[1]) {
				return fault(0, nil, "a capability is cut")
			}
			if err := checkCapability(BGPCapabilityCode(value[0]), value[2:2+int(value[1])]); err != nil {
				return err
			}
			value = value[2+int(value[1]):]
		}
		rest = rest[2+int(rest[1]):]
	}
	return nil
}

// checkCapability looks at those that decide what the session is; a recognised
// parameter that is malformed is answered with subcode 0.
func checkCapability(code BGPCapabilityCode, v []byte) error {
	ok, n := true, len(v)
	switch code {
	case BGP_CAP_MULTIPROTOCOL:
		ok = n == 4
	case BGP_CAP_ROUTE_REFRESH, BGP_CAP_ROUTE_REFRESH_CISCO, BGP_CAP_ENHANCED_ROUTE_REFRESH:
		ok = n == 0
	case BGP_CAP_EXTENDED_NEXTHOP:
		ok = n%6 == 0
	case BGP_CAP_GRACEFUL_RESTART:
		ok = n >= 2 && n%4 == 2
	case BGP_CAP_FOUR_OCTET_AS_NUMBER:
		ok = n == 4
		if ok && binary.BigEndian.Uint32(v) == 0 {
			return NewMessageError(BGP_ERROR_OPEN_MESSAGE_ERROR, BGP_ERROR_SUB_BAD_PEER_AS, nil, "AS 0")
		}
	case BGP_CAP_ADD_PATH:
		ok = n%4 == 0
	case BGP_CAP_LONG_LIVED_GRACEFUL_RESTART:
		ok = n%7 == 0
	}
	if !ok {
		return NewMessageError(BGP_ERROR_OPEN_MESSAGE_ERROR, 0, nil, fmt.Sprintf("capability %d with %d bytes", code, n))
	}
	return nil
}
