package shim

import (
	"errors"
	"strconv"
	"syscall"
	"unsafe"
)

// Errors of the connection.
const (
	errTimeout textError = "no answer before the timeout"
	errClosed  textError = "agent closed the connection"
	errPeer    textError = "socket belongs to a process that is neither root nor ours"
	errPath    textError = "socket path is longer than the kernel allows (107 bytes)"
)

// socket is a connected unix stream socket with one deadline for all of its
// reads and writes. It is plain system calls: package net doubles the
// start-up cost.
type socket struct {
	fd       int
	deadline int64 // by now
	least    int   // bytes for which the next read waits

	// buf[from:to] is received and not read yet. The agent's few small frames
	// arrive together, so one system call fetches them all.
	from, to int
	buf      [readBuffer]byte
}

// readBuffer holds the frames around an answer and most answers.
const readBuffer = 2 << 10

// open makes the socket; everything on it ends timeout seconds later.
func (s *socket) open(timeout int) (err error) {
	s.deadline = now() + int64(timeout)*second
	s.fd, err = syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	return err
}

// connect connects to the agent. A listener with a full backlog makes it wait,
// so the deadline covers it too.
func (s *socket) connect(path string) error {
	if len(path) > 107 {
		return errPath
	}
	for {
		if err := s.arm(syscall.SO_SNDTIMEO); err != nil {
			return err
		}
		err := syscall.Connect(s.fd, &syscall.SockaddrUnix{Name: path})
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return failed("connect", err)
		}
		break
	}
	cred, err := syscall.GetsockoptUcred(s.fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil {
		return failed("getsockopt SO_PEERCRED", err)
	}
	if cred.Uid != 0 && int(cred.Uid) != syscall.Getuid() {
		return errPeer
	}
	return nil
}

// left returns the nanoseconds until the deadline.
func (s *socket) left() int64 { return s.deadline - now() }

// arm sets the socket's timeout to the time left until the deadline.
func (s *socket) arm(option int) error {
	left := s.left()
	if left <= 0 {
		return errTimeout
	}
	// A zero timeval would mean "wait forever".
	tv := syscall.NsecToTimeval(max(left, 1000))
	return syscall.SetsockoptTimeval(s.fd, syscall.SOL_SOCKET, option, &tv)
}

// read fills b.
func (s *socket) read(b []byte) error {
	for {
		n := copy(b, s.buf[s.from:s.to])
		s.from += n
		if b = b[n:]; len(b) == 0 {
			return nil
		}
		if err := s.fill(); err != nil {
			return err
		}
	}
}

// buffered reports whether read would return a byte without waiting.
func (s *socket) buffered() bool { return s.from < s.to }

// fill waits for bytes and puts them into the buffer, which is empty. The first
// time it waits for the shortest possible answer: waking for a part of it would
// only take the processor from the agent.
func (s *socket) fill() error {
	if s.least > 1 {
		if err := s.lowWater(s.least); err != nil {
			return err
		}
		defer func() { s.least = 0; _ = s.lowWater(1) }()
	}
	for {
		if err := s.arm(syscall.SO_RCVTIMEO); err != nil {
			return err
		}
		n, err := syscall.Read(s.fd, s.buf[:])
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return failed("read", err)
		case n == 0:
			return errClosed
		}
		s.from, s.to = 0, n
		return nil
	}
}

// write sends all of b.
func (s *socket) write(b []byte) error {
	for len(b) > 0 {
		if err := s.arm(syscall.SO_SNDTIMEO); err != nil {
			return err
		}
		n, err := syscall.Write(s.fd, b)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return failed("write", err)
		}
		b = b[n:]
	}
	return nil
}

// lowWater sets the number of bytes for which a read waits (socket(7),
// SO_RCVLOWAT); the end of the stream and the timeout end it, too.
func (s *socket) lowWater(n int) error {
	return syscall.SetsockoptInt(s.fd, syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, n)
}

func (s *socket) close() { _ = syscall.Close(s.fd) }

// failed names the operation; EAGAIN is how the kernel reports that a socket
// timeout ran out.
func failed(op string, err error) error {
	if errors.Is(err, syscall.EAGAIN) {
		return errTimeout
	}
	return textError(op + ": " + err.Error())
}

// timeoutHeader returns the grpc-timeout of the time that is left: at most
// eight digits, here of milliseconds (gRPC over HTTP/2, "Timeout").
func (s *socket) timeoutHeader() string {
	ms := max(s.left()/(second/1000), 1)
	return strconv.FormatInt(min(ms, 99999999), 10) + "m"
}

const second = 1e9 // in the units of now

// now returns a time in nanoseconds that no setting of the clock changes
// (clock_gettime(2), CLOCK_MONOTONIC). Package time would cost more at start
// than the handful of system calls here.
func now() int64 {
	const monotonic = 1
	var ts syscall.Timespec
	// It fails only for a bad address or an unknown clock.
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, monotonic, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}
