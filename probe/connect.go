package probe

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// discard is a TCP port on which few machines listen (RFC 863): a refusal is as
// good an answer as a connection.
const discard = 9

// Connect tries a TCP connection to an address that does not answer an echo: a
// machine may have echoes off and be reached all the same. It is [Answered] when
// the connection is accepted or refused.
func (p *Prober) Connect(ctx context.Context, e Echo) Outcome {
	e.To, e.From = e.To.Unmap(), e.From.Unmap()
	domain := unix.AF_INET
	if e.To.Is6() {
		domain = unix.AF_INET6
	}
	if !p.take() {
		return limited()
	}
	start := time.Now()
	s, err := open(e.Netns, domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0, func(fd int) error {
		if e.From.IsValid() {
			if err := unix.Bind(fd, sockaddr(e.From, 0)); err != nil {
				return err
			}
		}
		to := sockaddr(e.To, 0)
		switch to := to.(type) {
		case *unix.SockaddrInet4:
			to.Port = discard
		case *unix.SockaddrInet6:
			to.Port = discard
		}
		err := unix.Connect(fd, to)
		if errors.Is(err, unix.EINPROGRESS) {
			return nil
		}
		return err
	})
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return connected(start)
	case err != nil:
		return unsent(err)
	}
	defer s.close()
	for time.Since(start) < patience {
		if ctx.Err() != nil {
			return cut(start)
		}
		if out, ended := handshake(s.fd, start); ended {
			return out
		}
	}
	return Outcome{Kind: Silent, Detail: "no answer to a TCP connection"}
}

// handshake waits a turn for the end of a TCP handshake that began at start.
func handshake(fd int, start time.Time) (out Outcome, ended bool) {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}} //nolint:gosec // a descriptor
	// A signal interrupts poll(2), and the Go runtime sends itself many: it is
	// no event, and the error of a socket that still connects is 0.
	if n, err := unix.Poll(poll, int(turn.Milliseconds())); n == 0 || errors.Is(err, unix.EINTR) {
		return Outcome{}, false
	}
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		return unsent(err), true
	case code == 0 || unix.Errno(code) == unix.ECONNREFUSED:
		return connected(start), true
	}
	return unsent(unix.Errno(code)), true
}

func connected(start time.Time) Outcome {
	return Outcome{Kind: Answered, RTT: time.Since(start), Detail: "answers TCP, but no echo"}
}
