package remote

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// limit returns the listener with the connections of each address bounded.
func (g *guard) limit(lis net.Listener) net.Listener { return &guardedListener{lis, g} }

type guardedListener struct {
	net.Listener
	guard *guard
}

// Accept implements net.Listener: connections beyond the bounds are closed.
func (l *guardedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		src := sourceOfConn(conn.RemoteAddr())
		if l.guard.opened(src, time.Now()) {
			return &guardedConn{Conn: conn, closed: sync.OnceFunc(func() { l.guard.ended(src) })}, nil
		}
		conn.Close() //nolint:gosec // nothing was written
	}
}

type guardedConn struct {
	net.Conn
	closed func()
}

// Close implements net.Conn.
func (c *guardedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// opened counts a connection, and reports whether there may be one more.
func (g *guard) opened(src netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.callerLocked(src, now)
	if c.conns < maxConns && g.conns < maxAll {
		c.conns++
		g.conns++
		return true
	}
	if now.Sub(c.logged) > time.Minute {
		c.logged = now
		g.log.Warn("registry closes a connection: too many are open", "from", src, "open", c.conns, "of_all", g.conns)
	}
	return false
}

func (g *guard) ended(src netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns--
	if c := g.callers[src]; c != nil {
		c.conns--
	}
}
