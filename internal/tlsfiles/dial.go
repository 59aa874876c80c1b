package tlsfiles

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// Dial connects to a server that speaks first, as HTTP/2 does (RFC 9113 section 3.4),
// and waits until it has accepted our certificate. In TLS 1.3 it judges that after the
// handshake: a request that is under way when it rejects the certificate could reset
// the connection before its reason is read.
func Dial(ctx context.Context, address string, c *tls.Config) (net.Conn, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, c)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close() //nolint:gosec // nothing was written
		return nil, err
	}
	first := make([]byte, 1)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	_, err = conn.Read(first)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		raw.Close() //nolint:gosec // nothing was written
		return nil, err
	}
	return &begun{Conn: conn, first: first}, nil
}

// begun is a connection of which the first bytes were read.
type begun struct {
	net.Conn

	first []byte
}

func (c *begun) Read(b []byte) (int, error) {
	if len(c.first) == 0 || len(b) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.first)
	c.first = c.first[n:]
	return n, nil
}
