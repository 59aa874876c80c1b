package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket is an open socket. Its reads return after at most [turn].
type socket struct {
	fd  int
	buf []byte
}

// open opens a socket in a namespace and prepares it.
func open(netns string, domain, kind, protocol int, prepare func(fd int) error) (*socket, error) {
	s := &socket{fd: -1, buf: make([]byte, 1<<16)}
	err := inside(netns, func() error {
		fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			return fmt.Errorf("open probe socket: %w", err)
		}
		wait := unix.NsecToTimeval(turn.Nanoseconds())
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
		if err == nil && prepare != nil {
			err = prepare(fd)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("prepare probe socket: %w", err), unix.Close(fd))
		}
		s.fd = fd
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// read returns the next packet and its sender; ok is false when none came within
// [turn].
func (s *socket) read() (packet []byte, from unix.Sockaddr, ok bool) {
	n, from, err := unix.Recvfrom(s.fd, s.buf, 0)
	if err != nil {
		return nil, nil, false
	}
	return s.buf[:n], from, true
}

// sockaddr is an address for the kernel, with its zone as the device index.
func sockaddr(a netip.Addr, index int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	sa := &unix.SockaddrInet6{Addr: a.As16()}
	if a.IsLinkLocalUnicast() || a.IsMulticast() {
		sa.ZoneId = uint32(index) //nolint:gosec // an index of the kernel's
	}
	return sa
}

// sender returns the address of a packet's sender.
func sender(from unix.Sockaddr) netip.Addr {
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(from.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(from.Addr)
	}
	return netip.Addr{}
}

// errnoWords are the kernel's refusals to send a packet.
var errnoWords = map[syscall.Errno]string{
	unix.EINVAL:        "a blackhole route takes it (EINVAL)",
	unix.EHOSTUNREACH:  "an unreachable route takes it, or the neighbour does not answer (EHOSTUNREACH)",
	unix.EACCES:        "a prohibit route takes it (EACCES)",
	unix.ENETUNREACH:   "no route (ENETUNREACH)",
	unix.EPERM:         "a chain of the hook output drops it (EPERM)",
	unix.EMSGSIZE:      "it does not fit into the MTU of the device (EMSGSIZE)",
	unix.ENETDOWN:      "the device is down (ENETDOWN)",
	unix.EADDRNOTAVAIL: "the source address is not there (EADDRNOTAVAIL)",
	unix.ENOBUFS:       "the queue of the device is full (ENOBUFS)",
}

// unsent is the outcome of a packet that the kernel did not send.
func unsent(err error) Outcome {
	text := err.Error()
	var errno syscall.Errno
	if errors.As(err, &errno) && errnoWords[errno] != "" {
		text = errnoWords[errno]
	}
	return Outcome{Kind: Unsent, Detail: "this kernel does not send it: " + text}
}
