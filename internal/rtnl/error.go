package rtnl

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Error is the kernel's refusal of one message.
type Error struct {
	Op    string // what the message was to do; "": not said
	Errno syscall.Errno
	Text  string // the kernel's explanation (extended acknowledgement), often empty
}

// Error implements error.
func (e *Error) Error() string {
	s := e.Errno.Error()
	if e.Op != "" {
		s = e.Op + ": " + s
	}
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

// Unwrap returns the errno, so that errors.Is(err, unix.ENETUNREACH) works.
func (e *Error) Unwrap() error { return e.Errno }

// Err reads the outcome that an NLMSG_ERROR or NLMSG_DONE message carries: nil
// for an acknowledgement and for the end of a list, otherwise an [*Error] that
// names the rejected op. A message too short to hold an outcome is EBADMSG,
// except an NLMSG_DONE, which need have none.
func (m Message) Err(op string) error {
	if len(m.Body) < 4 {
		if m.Type == unix.NLMSG_DONE {
			return nil
		}
		return &Error{Op: op, Errno: unix.EBADMSG}
	}
	errno := syscall.Errno(-int32(native.Uint32(m.Body)))
	if errno == 0 {
		return nil
	}
	return &Error{Op: op, Errno: errno, Text: m.explanation()}
}

// explanation returns NLMSGERR_ATTR_MSG. In an NLMSG_ERROR the attributes
// follow the refused message, in an NLMSG_DONE the number.
func (m Message) explanation() string {
	if m.Flags&unix.NLM_F_ACK_TLVS == 0 {
		return ""
	}
	rest := m.Body[4:]
	if m.Type != unix.NLMSG_DONE {
		refused := uint32(unix.SizeofNlMsghdr)
		if m.Flags&unix.NLM_F_CAPPED == 0 {
			refused = Uint32(rest)
		}
		if uint64(refused) > uint64(len(rest)) {
			return ""
		}
		rest = rest[min(align(int(refused)), len(rest)):]
	}
	for kind, value := range Attributes(rest).All() {
		if kind == unix.NLMSGERR_ATTR_MSG {
			return String(value)
		}
	}
	return ""
}
