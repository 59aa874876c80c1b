package bmp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// DialTime bounds how long a connection takes to be made.
	DialTime = 10 * time.Second
	// WriteTime bounds how long a collector may read nothing.
	WriteTime = 30 * time.Second
	// endTime is how long the last message may take: the agent's end waits for it.
	endTime = time.Second
)

// A connection over which nothing comes back is closed after WriteTime, whether
// something was sent or not.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// dial connects to a station. The kernel ends the connection when the collector takes
// nothing of what is sent for WriteTime (TCP_USER_TIMEOUT, tcp(7)): otherwise it would
// repeat the packets for a quarter of an hour.
func dial(ctx context.Context, set *Settings) (net.Conn, error) {
	d := net.Dialer{Timeout: DialTime, KeepAliveConfig: keepAlive, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if control := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(WriteTime/time.Millisecond)) //nolint:gosec // a file descriptor
		}); control != nil {
			return control
		}
		return err
	}}
	if set.SourceAddress.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(set.SourceAddress, 0))
	}
	return d.DialContext(ctx, "tcp", set.endpoint().String())
}

// errSilent is of a collector that reads nothing, or is gone.
var errSilent = fmt.Errorf("the collector read nothing, or did not answer, for %s", WriteTime)

// plain leaves the addresses and the system call out of an error of the network: the
// addresses stand beside it, and the port of this end makes two of one kind look
// different.
func plain(err error) error {
	if errors.Is(err, unix.ETIMEDOUT) { // of TCP_USER_TIMEOUT, or of keepalives
		return errSilent
	}
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return number
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// conn bounds how long each write takes.
type conn struct {
	net.Conn

	write time.Duration

	mu     sync.Mutex // guards ending, and the deadline
	ending bool
}

// Write implements [io.Writer].
func (c *conn) Write(b []byte) (int, error) {
	if err := c.limit(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *conn) limit() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return nil // end has set the last deadline
	}
	return c.SetWriteDeadline(time.Now().Add(c.write))
}

// end gives this write, and those that follow, endTime altogether.
func (c *conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	c.SetWriteDeadline(time.Now().Add(endTime)) //nolint:errcheck,gosec // of a closed connection
}

// errClosed is of a collector that closed the connection.
var errClosed = errors.New("the collector closed the connection")

// watch sends the reason when the connection is over, and closes it, which ends a write
// under way. Collectors send nothing: what one sends is discarded (RFC 7854 section 3.2).
func (c *conn) watch(gone chan<- error) {
	_, err := io.Copy(io.Discard, c.Conn)
	if err == nil {
		err = errClosed
	} else {
		err = fmt.Errorf("connection lost: %w", plain(err))
	}
	gone <- err
	c.Close() //nolint:gosec // it is over
}
