package endpoint

import (
	"log/slog"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bound returns a listener that closes the connections beyond the bounds as soon as
// they arrive: what they would cost is not theirs to decide. Name is for the log.
func Bound(lis net.Listener, b Bounds, name string, log *slog.Logger) net.Listener {
	return &bounded{Listener: lis, Tally: NewTally(b), name: name, log: log}
}

// bounded is the listener of Bound.
type bounded struct {
	net.Listener
	*Tally

	name   string
	log    *slog.Logger
	logged time.Time // of Accept's goroutine; the last closed one that was logged
}

// Accept implements net.Listener.
func (l *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		key := callerOf(conn)
		if l.open(key, time.Now()) {
			l.limit(conn)
			return &boundedConn{Conn: conn, end: sync.OnceFunc(func() { l.End(key) })}, nil
		}
		conn.Close() //nolint:gosec // nothing was written
	}
}

// limit bounds what the kernel keeps of a connection. One without that bound is good
// enough to be served.
func (l *bounded) limit(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok || l.bounds.Unsent == 0 {
		return
	}
	if err := tcp.SetWriteBuffer(l.bounds.Unsent); err != nil {
		l.log.Debug("failed to bound the send buffer", "socket", l.name, "err", err)
	}
}

// open counts a connection, and reports whether there may be one more.
func (l *bounded) open(key string, now time.Time) bool {
	if l.Begin(key) {
		return true
	}
	if now.Sub(l.logged) > time.Minute {
		l.logged = now
		each, all := l.Count(key)
		l.log.Warn("closes a connection: too many are open", "socket", l.name, "from", key, "open", each, "of_all", all)
	}
	return false
}

// boundedConn is a connection that is counted.
type boundedConn struct {
	net.Conn

	end func()
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	c.end()
	return c.Conn.Close()
}

// SyscallConn implements syscall.Conn: the server reads the credentials of the other
// end by it.
func (c *boundedConn) SyscallConn() (syscall.RawConn, error) {
	raw, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, syscall.ENOTSUP
	}
	return raw.SyscallConn()
}

// callerOf returns who is at the other end: a user or an address.
func callerOf(conn net.Conn) string {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("").String()
	}
	if unixConn, ok := conn.(*net.UnixConn); ok {
		if uid, ok := peerUID(unixConn); ok {
			return "uid " + strconv.FormatUint(uint64(uid), 10)
		}
	}
	return "unknown"
}

func peerUID(conn *net.UnixConn) (uint32, bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, false
	}
	var cred *unix.Ucred
	if err := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || cred == nil {
		return 0, false
	}
	return cred.Uid, true
}
