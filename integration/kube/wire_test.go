package kube

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"

	"onlink/integration/kube/api"
	"onlink/kube/client"
)

// wire is the way of one process to the API server: connections of its own, which
// can be cut and are counted. Bytes are those on the wire, with TLS and HTTP/2.
type wire struct {
	read, written atomic.Int64
	dials         atomic.Int64

	mu    sync.Mutex // guards all below
	open  chan struct{}
	ended bool
	conns map[*wireConn]bool
}

func newWire() *wire {
	w := &wire{open: make(chan struct{}), conns: map[*wireConn]bool{}}
	close(w.open)
	return w
}

// cut makes the wire swallow everything, as a network does that drops packets: no
// connection ends, and none is refused.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.open:
		w.open = make(chan struct{})
	default: // it is cut
	}
}

// heal ends cut.
func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.open:
	default:
		close(w.open)
	}
}

// end closes all connections, for good.
func (w *wire) end() {
	w.mu.Lock()
	w.ended = true
	var all []*wireConn
	for c := range w.conns {
		all = append(all, c)
	}
	w.mu.Unlock()
	for _, c := range all {
		_ = c.Close() // its error says that it was closed before
	}
}

// pass waits until the wire is not cut.
func (w *wire) pass(given <-chan struct{}) error {
	w.mu.Lock()
	open := w.open
	w.mu.Unlock()
	select {
	case <-open:
		return nil
	case <-given:
		return net.ErrClosed
	}
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := w.pass(ctx.Done()); err != nil {
		return nil, err
	}
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w.dials.Add(1)
	wrapped := &wireConn{Conn: c, w: w, closed: make(chan struct{})}
	w.mu.Lock()
	ended := w.ended
	w.conns[wrapped] = true
	w.mu.Unlock()
	if ended {
		_ = wrapped.Close() // nothing was sent
		return nil, net.ErrClosed
	}
	return wrapped, nil
}

// wireConn is one connection.
type wireConn struct {
	net.Conn

	w      *wire
	once   sync.Once
	closed chan struct{}
}

func (c *wireConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.w.read.Add(int64(n))
	if perr := c.w.pass(c.closed); perr != nil {
		return 0, perr
	}
	return n, err
}

func (c *wireConn) Write(b []byte) (int, error) {
	if err := c.w.pass(c.closed); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	c.w.written.Add(int64(n))
	return n, err
}

func (c *wireConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.w.mu.Lock()
	delete(c.w.conns, c)
	c.w.mu.Unlock()
	return c.Conn.Close()
}

// config returns the configuration of a client over the wire, as the process of a
// pod has it: all of its clients share the connections.
func (w *wire) config(of *rest.Config) *rest.Config {
	cfg := rest.CopyConfig(of)
	cfg.TLSClientConfig = rest.TLSClientConfig{}
	cfg.Transport = utilnet.SetTransportDefaults(&http.Transport{
		DialContext:     w.dial,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: of.Insecure, MinVersion: tls.VersionTLS12}, //nolint:gosec // as of says
	})
	return cfg
}

// client returns a client over the wire.
func (w *wire) client(t *testing.T, s *api.Server) *client.Client {
	t.Helper()
	c, err := client.New(w.config(s.Config))
	must(t, err)
	return c
}
