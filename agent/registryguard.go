package agent

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"onlink/ipam"
)

// Bounds of what one address may ask of the registry. A node asks a few times a
// minute; one whose pods all start at once, a few dozen times a second.
const (
	registryRate  = 50  // calls a second
	registryBurst = 500 // calls at once after a quiet time
	registryConns = 16  // connections of one address
	registryAll   = 16384
	registryQuiet = 10 * time.Minute // after it an address is forgotten
)

// registryGuard decides who is answered on the registry's port: nobody inside
// the pools, who are pods; and each caller for the node that it is, and as
// often as a node needs.
type registryGuard struct {
	log *slog.Logger

	mu      sync.Mutex
	pools   []netip.Prefix              // guarded by mu
	callers map[netip.Addr]*callerState // guarded by mu
	conns   int                         // guarded by mu
	swept   time.Time                   // guarded by mu
}

// callerState is what is remembered of one address.
type callerState struct {
	left  float64 // calls it may make now
	seen  time.Time
	conns int
	told  time.Time // its last refusal was logged
}

func newRegistryGuard(log *slog.Logger, pools []netip.Prefix) *registryGuard {
	return &registryGuard{log: log, pools: pools, callers: map[netip.Addr]*callerState{}, swept: time.Now()}
}

// setPools replaces the pools.
func (g *registryGuard) setPools(pools []netip.Prefix) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pools = pools
}

// intercept is the server's first look at every call.
func (g *registryGuard) intercept(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := g.admit(sourceOfCall(ctx), time.Now()); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

// admit reports whether an address is answered now.
func (g *registryGuard) admit(src netip.Addr, now time.Time) error {
	if !src.IsValid() {
		return nil // not from the network
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.callerLocked(src, now)
	var err error
	if i := slices.IndexFunc(g.pools, func(p netip.Prefix) bool { return p.Contains(src) }); i >= 0 {
		err = status.Errorf(codes.PermissionDenied, "the registry answers nobody inside the pools: %v is in %v", src, g.pools[i])
	} else if c.left < 1 {
		err = status.Errorf(codes.Unavailable, "too many calls from %v: %d a second are answered", src, registryRate)
	} else {
		c.left--
	}
	if err != nil && now.Sub(c.told) > time.Minute {
		c.told = now
		g.log.Warn("registry refuses a call", "from", src, "err", err)
	}
	return err
}

// callerLocked returns what is known of an address, with the calls that it may
// make by now.
func (g *registryGuard) callerLocked(src netip.Addr, now time.Time) *callerState {
	if now.Sub(g.swept) > registryQuiet {
		g.swept = now
		for a, c := range g.callers {
			if c.conns == 0 && now.Sub(c.seen) > registryQuiet {
				delete(g.callers, a)
			}
		}
	}
	c := g.callers[src]
	if c == nil {
		c = &callerState{left: registryBurst, seen: now}
		g.callers[src] = c
	}
	c.left = min(c.left+now.Sub(c.seen).Seconds()*registryRate, registryBurst)
	c.seen = now
	return c
}

// bind makes sure that a caller asks for the node that it is: it comes from the
// address that the node's blocks lead to, or its certificate names the node.
func (g *registryGuard) bind(ctx context.Context, by ipam.Caller) error {
	if g == nil {
		return nil
	}
	src := sourceOfCall(ctx)
	cert := certificateOf(ctx)
	switch {
	case !src.IsValid(), src == by.Address, src == by.Address6, names(cert, by):
		return nil
	case by.Instance == "" && !by.Address.IsValid() && !by.Address6.IsValid():
		return nil // of a version before: what it may do the registry judges
	case src.IsLoopback():
		return nil // this machine
	}
	how := ""
	if cert != nil {
		how = ", and its certificate names neither the node nor the address"
	}
	return status.Errorf(codes.PermissionDenied,
		"node %q announces its blocks from %s and asks from %v%s: set node.address to the address it asks from, or give it a certificate that names it",
		by.Node, by.Where(), src, how)
}

// names reports whether a certificate is that of the caller's node: by its name
// or by its address.
func names(cert *x509.Certificate, by ipam.Caller) bool {
	if cert == nil {
		return false
	}
	if cert.Subject.CommonName == by.Node || slices.Contains(cert.DNSNames, by.Node) {
		return true
	}
	return slices.ContainsFunc(cert.IPAddresses, func(ip net.IP) bool {
		a, ok := netip.AddrFromSlice(ip)
		return ok && (a.Unmap() == by.Address || a == by.Address6)
	})
}

// sourceOfCall returns where a call comes from; the zero Addr: not from the
// network.
func sourceOfCall(ctx context.Context) netip.Addr {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return netip.Addr{}
	}
	return sourceOfConn(p.Addr)
}

func sourceOfConn(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}

// certificateOf returns the certificate that a caller has shown, which TLS has
// verified; nil: none.
func certificateOf(ctx context.Context) *x509.Certificate {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.PeerCertificates) == 0 {
		return nil
	}
	return info.State.PeerCertificates[0]
}

// options are those of the registry's server.
func (g *registryGuard) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.UnaryInterceptor(g.intercept), grpc.MaxConcurrentStreams(32), grpc.ConnectionTimeout(10 * time.Second),
	}
}

// limit returns the listener with the connections of each address bounded.
func (g *registryGuard) limit(lis net.Listener) net.Listener { return &guardedListener{lis, g} }

type guardedListener struct {
	net.Listener
	guard *registryGuard
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
func (g *registryGuard) opened(src netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.callerLocked(src, now)
	if c.conns < registryConns && g.conns < registryAll {
		c.conns++
		g.conns++
		return true
	}
	if now.Sub(c.told) > time.Minute {
		c.told = now
		g.log.Warn("registry closes a connection: too many are open", "from", src, "open", c.conns, "of_all", g.conns)
	}
	return false
}

func (g *registryGuard) ended(src netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns--
	if c := g.callers[src]; c != nil {
		c.conns--
	}
}
