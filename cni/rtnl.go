package cni

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"

	"golang.org/x/sys/unix"
)

// rtnl is a route netlink socket (rtnetlink(7)) in the network namespace its
// thread was in when it was opened; it stays there wherever the thread goes.
// It sends many messages with one system call and has the kernel acknowledge
// only the last one.
type rtnl struct {
	fd  int
	seq uint32 // of the next message
	buf []byte // what was received last
}

// rtnlBuffer holds the kernel's answers, the longest of which describes a link.
const rtnlBuffer = 8 << 10

// rtnlTimeout bounds every answer, so that no thread waits for ever; the
// kernel answers within the call unless the machine is very busy.
const rtnlTimeout = 10 // seconds

// dialRtnl opens a socket in the calling thread's namespace. It receives into
// buf, of rtnlBuffer bytes.
func dialRtnl(buf []byte) (*rtnl, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	// CAP_ACK keeps acknowledgements short; EXT_ACK adds the kernel's text.
	// Kernels without them answer the same, only longer or without text.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: rtnlTimeout}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set netlink timeout: %w", err)
	}
	return &rtnl{fd: fd, seq: 1, buf: buf}, nil
}

func (s *rtnl) close() { _ = unix.Close(s.fd) }

// kernelError is the kernel's refusal of one message.
type kernelError struct {
	op   string // what the message was to do
	err  unix.Errno
	text string // the kernel's explanation, often empty
}

// Error implements error.
func (e *kernelError) Error() string {
	if e.text == "" {
		return e.op + ": " + e.err.Error()
	}
	return e.op + ": " + e.err.Error() + " (" + e.text + ")"
}

// Unwrap returns the errno.
func (e *kernelError) Unwrap() error { return e.err }

// exec sends the batch and waits until the kernel has done all of it. The
// kernel goes on after a message it refuses; all refusals are joined.
func (s *rtnl) exec(m *batch) error { return s.ask(m, func(message) {}) }

// ask is exec for a batch that has answers: each gets them until ask returns.
func (s *rtnl) ask(m *batch, each func(message)) error {
	if len(m.ops) == 0 {
		return nil
	}
	first := s.seq
	s.seq += uint32(len(m.ops))
	m.stamp(first)
	if err := retryEINTR(func() error { _, err := unix.Write(s.fd, m.b); return err }); err != nil {
		return fmt.Errorf("%s: send: %w", m.ops[0], err)
	}
	var errs []error
	for last := false; !last; {
		got, err := s.receive()
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("%s: receive: %w", m.ops[0], err))...)
		}
		for msg := range messages(got) {
			i := msg.seq - first
			switch {
			case i >= uint32(len(m.ops)): // the late answer to a batch that timed out
			case msg.kind != unix.NLMSG_ERROR:
				each(msg)
			default:
				if errno, text := msg.errno(); errno != 0 {
					errs = append(errs, &kernelError{m.ops[i], errno, text})
				}
				last = int(i) == len(m.ops)-1
			}
		}
	}
	return errors.Join(errs...)
}

// receive returns the next datagram, until it is called again.
func (s *rtnl) receive() ([]byte, error) {
	var n int
	err := retryEINTR(func() (err error) { n, err = unix.Read(s.fd, s.buf); return err })
	return s.buf[:max(n, 0)], err
}

func retryEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR { //nolint:errorlint // raw errno
			return err
		}
	}
}

// message is one received netlink message.
type message struct {
	kind, flags uint16
	seq         uint32
	body        []byte
}

// messages yields the messages of a datagram and stops at a malformed one.
func messages(b []byte) iter.Seq[message] {
	return func(yield func(message) bool) {
		for len(b) >= unix.NLMSG_HDRLEN {
			n := int(binary.NativeEndian.Uint32(b))
			if n < unix.NLMSG_HDRLEN || n > len(b) {
				return
			}
			m := message{
				kind: binary.NativeEndian.Uint16(b[4:]), flags: binary.NativeEndian.Uint16(b[6:]),
				seq: binary.NativeEndian.Uint32(b[8:]), body: b[unix.NLMSG_HDRLEN:n],
			}
			if !yield(m) {
				return
			}
			b = b[min(align4(n), len(b)):]
		}
	}
}

// Flags of an acknowledgement (linux/netlink.h).
const (
	nlmCapped  = 0x100
	nlmAckTLVs = 0x200
)

// errno returns the result an NLMSG_ERROR message carries, and the kernel's
// text if there is one.
func (m message) errno() (errno unix.Errno, text string) {
	if len(m.body) < 4+unix.NLMSG_HDRLEN {
		return unix.EBADMSG, ""
	}
	errno = unix.Errno(-int32(binary.NativeEndian.Uint32(m.body)))
	if m.flags&nlmAckTLVs == 0 {
		return errno, ""
	}
	at := 4 + unix.NLMSG_HDRLEN // after the errno and the header of the refused message
	if m.flags&nlmCapped == 0 {
		at = 4 + align4(int(binary.NativeEndian.Uint32(m.body[4:])))
	}
	for kind, value := range attributes(m.body[min(at, len(m.body)):]) {
		if kind == unix.NLMSGERR_ATTR_MSG {
			return errno, unix.ByteSliceToString(value)
		}
	}
	return errno, ""
}

// attributes yields the attributes in b and stops at a malformed one.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			n := int(binary.NativeEndian.Uint16(b))
			if n < unix.SizeofNlAttr || n > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED, b[unix.SizeofNlAttr:n]) {
				return
			}
			b = b[min(align4(n), len(b)):]
		}
	}
}

func align4(n int) int { return (n + 3) &^ 3 }

// batch is a sequence of netlink messages under construction.
type batch struct {
	b     []byte
	ops   []string // what each message does, for errors
	heads []int    // where each message starts
}

// begin starts a message.
func (m *batch) begin(op string, kind, flags uint16) {
	m.ops = append(m.ops, op)
	m.heads = append(m.heads, len(m.b))
	m.b = binary.NativeEndian.AppendUint32(m.b, 0) // length
	m.b = binary.NativeEndian.AppendUint16(m.b, kind)
	m.b = binary.NativeEndian.AppendUint16(m.b, flags|unix.NLM_F_REQUEST)
	m.b = append(m.b, 0, 0, 0, 0, 0, 0, 0, 0) // sequence number, port
}

// stamp fills in lengths and sequence numbers and asks for the last message's
// acknowledgement.
func (m *batch) stamp(seq uint32) {
	for i, head := range m.heads {
		end := len(m.b)
		if i+1 < len(m.heads) {
			end = m.heads[i+1]
		}
		binary.NativeEndian.PutUint32(m.b[head:], uint32(end-head))
		binary.NativeEndian.PutUint32(m.b[head+8:], seq+uint32(i))
		if i == len(m.heads)-1 {
			flags := binary.NativeEndian.Uint16(m.b[head+6:])
			binary.NativeEndian.PutUint16(m.b[head+6:], flags|unix.NLM_F_ACK)
		}
	}
}

func (m *batch) bytes(b ...byte)   { m.b = append(m.b, b...) }
func (m *batch) number(v uint32)   { m.b = binary.NativeEndian.AppendUint32(m.b, v) }
func (m *batch) number16(v uint16) { m.b = binary.NativeEndian.AppendUint16(m.b, v) }

// attr appends one attribute, padded.
func (m *batch) attr(kind uint16, value []byte) {
	m.number16(uint16(unix.SizeofNlAttr + len(value)))
	m.number16(kind)
	m.b = append(m.b, value...)
	for len(m.b)%4 != 0 {
		m.b = append(m.b, 0)
	}
}

func (m *batch) attr32(kind uint16, v uint32) {
	m.number16(unix.SizeofNlAttr + 4)
	m.number16(kind)
	m.number(v)
}

func (m *batch) attrString(kind uint16, s string) { m.attr(kind, append([]byte(s), 0)) }

func (m *batch) attrAddr(kind uint16, a netip.Addr) {
	if a.Is4() {
		b := a.As4()
		m.attr(kind, b[:])
		return
	}
	b := a.As16()
	m.attr(kind, b[:])
}

// nest appends an attribute that holds the attributes inner appends.
func (m *batch) nest(kind uint16, inner func()) {
	at := len(m.b)
	m.number16(0)
	m.number16(kind | unix.NLA_F_NESTED)
	inner()
	binary.NativeEndian.PutUint16(m.b[at:], uint16(len(m.b)-at))
}

// link appends the fixed part of a link message (struct ifinfomsg).
func (m *batch) link(index int32, flags, change uint32) {
	m.bytes(unix.AF_UNSPEC, 0, 0, 0)
	m.number(uint32(index))
	m.number(flags)
	m.number(change)
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
