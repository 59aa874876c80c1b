package rtnl

import (
	"iter"

	"golang.org/x/sys/unix"
)

// Message is one received message: struct nlmsghdr and its payload.
type Message struct {
	Type  uint16 // RTM_*, or NLMSG_*
	Flags uint16 // NLM_F_*
	Seq   uint32 // of the request that is answered; 0 in a notification
	Body  []byte // valid as long as the datagram is
}

// Messages are those of one datagram.
type Messages []byte

// Next cuts off the first message. It returns false at the end, and at a
// length that does not fit.
func (b *Messages) Next() (m Message, ok bool) {
	d := *b
	if len(d) < unix.SizeofNlMsghdr {
		return Message{}, false
	}
	n := int(native.Uint32(d))
	if n < unix.SizeofNlMsghdr || n > len(d) {
		return Message{}, false
	}
	*b = d[min(align(n), len(d)):]
	return Message{Type: native.Uint16(d[4:]), Flags: native.Uint16(d[6:]), Seq: native.Uint32(d[8:]), Body: d[unix.SizeofNlMsghdr:n]}, true
}

// All yields the messages, as [Messages.Next] does.
func (b Messages) All() iter.Seq[Message] {
	return func(yield func(Message) bool) {
		for {
			if m, ok := b.Next(); !ok || !yield(m) {
				return
			}
		}
	}
}
