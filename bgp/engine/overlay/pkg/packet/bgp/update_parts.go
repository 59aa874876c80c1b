// Part of the patch safety/update-check.

package bgp

import (
	"encoding/binary"
	"fmt"
)

// The parts of an UPDATE, what is wrong with them, and their joining again after
// some were taken out: see check_update.go.

func (u *updateParts) find(t BGPAttrType) *rawAttribute {
	for i := range u.attrs {
		if u.attrs[i].typ == t {
			return &u.attrs[i]
		}
	}
	return nil
}

func (u *updateParts) remove(t BGPAttrType) {
	for i := range u.attrs {
		if u.attrs[i].typ == t {
			u.attrs, u.changed = append(u.attrs[:i], u.attrs[i+1:]...), true
			return
		}
	}
}

// drop leaves an attribute out.
func (u *updateParts) drop(a rawAttribute, sub uint8, why string) {
	u.changed = true
	u.fault(sub, a.all, ERROR_HANDLING_ATTRIBUTE_DISCARD, fmt.Sprintf("attribute %d left out: %s", a.typ, why))
}

// withdraw leaves an attribute out and has the routes withdrawn.
func (u *updateParts) withdraw(a rawAttribute, sub uint8, why string) {
	u.changed = true
	u.fault(sub, a.all, ERROR_HANDLING_TREAT_AS_WITHDRAW, fmt.Sprintf("malformed attribute %d: %s", a.typ, why))
}

// fault keeps the worst; of two alike the first.
func (u *updateParts) fault(sub uint8, data []byte, handling ErrorHandling, why string) {
	if u.worst == nil || handling > u.worst.ErrorHandling {
		u.worst = updateFault(sub, data, handling, why)
	}
}

// maxFaultData keeps a NOTIFICATION within a message's length.
const maxFaultData = 2048

func updateFault(sub uint8, data []byte, handling ErrorHandling, why string) *MessageError {
	if len(data) > maxFaultData {
		data = data[:maxFaultData]
	}
	return &MessageError{
		TypeCode: BGP_ERROR_UPDATE_MESSAGE_ERROR, SubTypeCode: sub,
		Data: append([]byte(nil), data...), ErrorHandling: handling, Message: why,
	}
}

// join puts what is left together; nil if that would read as an End-of-RIB,
// which the peer did not send.
func (u *updateParts) join() []byte {
	if len(u.withdrawn)+len(u.nlri) == 0 && (len(u.attrs) == 0 ||
		len(u.attrs) == 1 && u.others && u.attrs[0].typ == BGP_ATTR_TYPE_MP_UNREACH_NLRI && len(u.attrs[0].value) == 3) {
		return nil
	}
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 4096), uint16(len(u.withdrawn)))
	b = append(b, u.withdrawn...)
	at := len(b)
	b = append(b, 0, 0)
	for _, a := range u.attrs {
		if len(a.value) > 255 {
			a.flags |= BGP_ATTR_FLAG_EXTENDED_LENGTH
		}
		b = append(b, byte(a.flags), byte(a.typ))
		if a.flags&BGP_ATTR_FLAG_EXTENDED_LENGTH != 0 {
			b = binary.BigEndian.AppendUint16(b, uint16(len(a.value)))
		} else {
			b = append(b, byte(len(a.value)))
		}
		b = append(b, a.value...)
	}
	binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	return append(b, u.nlri...)
}
