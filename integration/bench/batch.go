package bench

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// batch is what onlink's kernel writers are measured against: rtnetlink
// messages laid end to end in one buffer, sent with one system call, of which
// only the last is acknowledged. It checks nothing but errors.
type batch struct {
	b    []byte
	last int // where the newest message begins
	seq  uint32
}

// begin starts a message with the fixed part of its family.
func (m *batch) begin(typ, flags uint16, fixed ...byte) {
	m.finish()
	m.last = len(m.b)
	m.seq++
	m.b = binary.NativeEndian.AppendUint32(m.b, 0)
	m.b = binary.NativeEndian.AppendUint16(m.b, typ)
	m.b = binary.NativeEndian.AppendUint16(m.b, flags|unix.NLM_F_REQUEST)
	m.b = binary.NativeEndian.AppendUint32(m.b, m.seq)
	m.b = binary.NativeEndian.AppendUint32(m.b, 0)
	m.b = append(m.b, fixed...)
}

// finish fills in the length of the newest message.
func (m *batch) finish() {
	if len(m.b) > m.last {
		binary.NativeEndian.PutUint32(m.b[m.last:], uint32(len(m.b)-m.last)) //nolint:gosec // a few hundred bytes
	}
}

func (m *batch) attr(typ uint16, value ...byte) {
	m.b = binary.NativeEndian.AppendUint16(m.b, uint16(4+len(value))) //nolint:gosec // a few bytes
	m.b = binary.NativeEndian.AppendUint16(m.b, typ)
	m.b = append(m.b, value...)
	for len(m.b)%4 != 0 {
		m.b = append(m.b, 0)
	}
}

func (m *batch) attr32(typ uint16, v uint32) {
	m.attr(typ, binary.NativeEndian.AppendUint32(nil, v)...)
}

// nest appends an attribute that holds others.
func (m *batch) nest(typ uint16, inner func()) {
	start := len(m.b)
	m.attr(typ)
	inner()
	binary.NativeEndian.PutUint16(m.b[start:], uint16(len(m.b)-start)) //nolint:gosec // a few hundred bytes
}

// rtSocket is a route netlink socket of the namespace it was opened in.
type rtSocket struct {
	fd  int
	buf []byte
}

func dialRoute() (*rtSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	// Errors must fit whatever their number, and echo no request.
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20))
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set up netlink: %w", err)
	}
	return &rtSocket{fd: fd, buf: make([]byte, 8<<10)}, nil
}

func (s *rtSocket) close() { unix.Close(s.fd) }

// send writes the batch and waits until the kernel has done all of it; the
// first refusal is the error. The batch is empty afterwards.
func (s *rtSocket) send(m *batch) error {
	if len(m.b) == 0 {
		return nil
	}
	m.finish()
	flags := m.b[m.last+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	if err := unix.Sendto(s.fd, m.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	m.b, m.last = m.b[:0], 0
	for {
		n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		for b := s.buf[:n]; len(b) >= 20; b = b[min(len(b), int(binary.NativeEndian.Uint32(b)+3)&^3):] {
			if binary.NativeEndian.Uint16(b[4:]) != unix.NLMSG_ERROR {
				continue
			}
			if errno := -int32(binary.NativeEndian.Uint32(b[16:])); errno != 0 { //nolint:gosec // the kernel's sign
				return fmt.Errorf("message %d: %w", binary.NativeEndian.Uint32(b[8:]), unix.Errno(errno)) //nolint:gosec // a small number
			}
			if binary.NativeEndian.Uint32(b[8:]) == m.seq {
				return nil
			}
		}
	}
}

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// ifinfo is a struct ifinfomsg: the link with an index, and flags to set.
func ifinfo(index, up uint32) []byte {
	b := append([]byte{unix.AF_UNSPEC, 0, 0, 0}, native32(index)...)
	return append(append(b, native32(up)...), native32(up)...)
}
