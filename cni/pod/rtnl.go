package pod

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"onlink/internal/rtnl"
)

// socket is a route netlink socket (rtnetlink(7)) in the network namespace its
// thread was in when it was opened; it stays there wherever the thread goes.
// It sends many messages with one system call and has the kernel acknowledge
// only the last one.
type socket struct {
	fd  int
	seq uint32 // of the next message
	buf []byte // the datagram received last
}

// socketBuffer holds the kernel's answers, the longest of which describes a
// link.
const socketBuffer = 8 << 10

// socketTimeout bounds every answer, so that no thread waits for ever; the
// kernel answers within the call unless the machine is very busy.
const socketTimeout = 10 // seconds

// dialSocket opens a socket in the calling thread's namespace. It receives into
// buf, of socketBuffer bytes.
func dialSocket(buf []byte) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	// CAP_ACK keeps acknowledgements short; EXT_ACK adds the kernel's text.
	// Kernels without them answer the same, only longer or without text.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: socketTimeout}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set netlink timeout: %w", err)
	}
	return &socket{fd: fd, seq: 1, buf: buf}, nil
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// exec sends the batch and waits until the kernel has done all of it. The kernel
// continues after a message it refuses; all refusals are joined, each an
// [*rtnl.Error].
func (s *socket) exec(m *rtnl.Batch) error { return s.ask(m, func(rtnl.Message) {}) }

// ask is exec for a batch with answers: each receives them until ask returns.
func (s *socket) ask(m *rtnl.Batch, each func(rtnl.Message)) error {
	if m.Len() == 0 {
		return nil
	}
	first := s.seq
	s.seq += uint32(m.Len())
	m.Stamp(first)
	if err := retryEINTR(func() error { _, err := unix.Write(s.fd, m.B); return err }); err != nil {
		return fmt.Errorf("%s: send: %w", m.Op(0), err)
	}
	var errs []error
	for last := false; !last; {
		got, err := s.receive()
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("%s: receive: %w", m.Op(0), err))...)
		}
		for msg := range got.All() {
			i := msg.Seq - first
			switch {
			case i >= uint32(m.Len()): // the late answer to a batch that timed out
			case msg.Type != unix.NLMSG_ERROR:
				each(msg)
			default:
				if err := msg.Err(m.Op(int(i))); err != nil {
					errs = append(errs, err)
				}
				last = int(i) == m.Len()-1
			}
		}
	}
	return errors.Join(errs...)
}

// receive returns the next datagram, which is valid until the next call.
func (s *socket) receive() (rtnl.Messages, error) {
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
