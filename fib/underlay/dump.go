package underlay

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"onlink/internal/rtnl"
)

// dumpTimeout bounds the wait for one datagram of a dump.
var dumpTimeout = unix.Timeval{Sec: 5}

// An interrupted dump is begun again at once, dumpTries times; of a table that is
// read quickly, until dumpPatience is over or manyTries are made.
const (
	dumpTries    = 5
	manyTries    = 50
	dumpPatience = 250 * time.Millisecond
)

// dumper dumps the kernel's tables. Its socket blocks and joins no multicast
// group.
type dumper struct {
	fd  int
	seq uint32
	buf []byte
}

func openDumper() (_ *dumper, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &dumpTimeout); err != nil {
		return nil, errors.Join(fmt.Errorf("set netlink timeout: %w", err), unix.Close(fd))
	}
	return &dumper{fd: fd, buf: make([]byte, bufferSize)}, nil
}

func (d *dumper) close() error { return unix.Close(d.fd) }

// barrier returns when the kernel is between two changes: the request for one
// link takes the lock that every change holds to its end (RTNL). Without it a
// dump, which takes no lock on new kernels, may still show routes that the change
// just notified is about to remove silently.
func (d *dumper) barrier() error {
	loopback := question(func(b *rtnl.Builder) { b.Link(rtnl.Link{Index: 1}) })
	err := d.ask(unix.RTM_GETLINK, unix.NLM_F_ACK, loopback, func(rtnl.Message) {})
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// question builds the body of a request, which follows the header.
func question(build func(*rtnl.Builder)) []byte {
	var b rtnl.Builder
	build(&b)
	return b.B
}

// dump calls each for every message of a table in a family. An interrupted dump
// is begun again; begin is called before each try and drops the messages
// collected so far.
func (d *dumper) dump(kind uint16, question []byte, begin func(), each func(rtnl.Message)) error {
	var err error
	start := time.Now()
	for n := range manyTries {
		if n >= dumpTries && time.Since(start) > dumpPatience {
			break
		}
		begin()
		if err = d.ask(kind, unix.NLM_F_DUMP, question, each); !errors.Is(err, errInterrupted) {
			return err
		}
	}
	return err
}

// ask sends a request and calls each for every answer until the last.
func (d *dumper) ask(kind, flags uint16, question []byte, each func(rtnl.Message)) error {
	d.seq++
	var b rtnl.Builder
	start := b.Begin(kind, flags, d.seq)
	b.B = append(b.B, question...)
	b.End(start)
	if err := unix.Sendto(d.fd, b.B, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send netlink request: %w", err)
	}
	interrupted := false
	for {
		n, _, recvFlags, _, err := unix.Recvmsg(d.fd, d.buf, nil, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive netlink answer: %w", err)
		}
		if recvFlags&unix.MSG_TRUNC != 0 {
			return fmt.Errorf("receive netlink answer of %d bytes: %w", n, errMessage)
		}
		done, intr, err := d.answers(d.buf[:n], each)
		interrupted = interrupted || intr
		switch {
		case err != nil:
			return err
		case done && interrupted:
			return errInterrupted
		case done:
			return nil
		}
	}
}

// answers calls each for the answers of one datagram and reports whether the
// last was among them, and whether the kernel marked the dump as interrupted.
func (d *dumper) answers(b []byte, each func(rtnl.Message)) (done, interrupted bool, err error) {
	for m := range rtnl.Messages(b).All() {
		if m.Seq != d.seq {
			continue // of an earlier request that was given up
		}
		interrupted = interrupted || m.Flags&unix.NLM_F_DUMP_INTR != 0
		if m.Type == unix.NLMSG_DONE || m.Type == unix.NLMSG_ERROR {
			return true, interrupted, answerError(m)
		}
		each(m)
	}
	return false, interrupted, nil
}

// answerError returns the outcome of a request; EINTR is the kernel's other sign
// of an interrupted dump.
func answerError(m rtnl.Message) error {
	err := m.Err("")
	switch {
	case errors.Is(err, unix.EINTR):
		return errInterrupted
	case err != nil:
		return fmt.Errorf("read netlink answer: %w", err)
	}
	return nil
}
