package remote

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

// Bounds of the calls from one address. A node calls a few times a minute; one
// whose pods all start at once, a few dozen times a second.
const (
	callRate  = 50               // calls a second
	callBurst = 500              // calls at once after a quiet time
	maxConns  = 16               // connections of one address
	maxAll    = 16384            // connections of all addresses
	maxQuiet  = 10 * time.Minute // after which an address is forgotten
)

// guard refuses calls on the registry's port: from addresses inside the pools,
// which are pods'; from a node for another node; and from an address that calls
// more often than a node needs.
type guard struct {
	log *slog.Logger

	mu      sync.Mutex
	pools   []netip.Prefix              // guarded by mu
	callers map[netip.Addr]*callerState // guarded by mu
	conns   int                         // guarded by mu
	swept   time.Time                   // guarded by mu
}

// callerState counts the calls and connections of one address.
type callerState struct {
	left   float64 // calls it may make now
	seen   time.Time
	conns  int
	logged time.Time // its last refusal that was logged
}

func newGuard(log *slog.Logger, pools []netip.Prefix) *guard {
	return &guard{log: log, pools: pools, callers: map[netip.Addr]*callerState{}, swept: time.Now()}
}

func (g *guard) setPools(pools []netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pools = pools
}

// intercept is a [grpc.UnaryServerInterceptor] that admits calls.
func (g *guard) intercept(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := g.admit(sourceOfCall(ctx), time.Now()); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

// admit reports whether an address is answered now.
func (g *guard) admit(src netip.Addr, now time.Time) error {
	if !src.IsValid() {
		return nil // not from the network
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.callerLocked(src, now)
	var err error
	if i := slices.IndexFunc(g.pools, func(p netip.Prefix) bool { return p.Contains(src) }); i >= 0 {
		err = status.Errorf(codes.PermissionDenied, "the registry rejects callers inside the pools: %v is in %v", src, g.pools[i])
	} else if c.left < 1 {
		err = status.Errorf(codes.Unavailable, "too many calls from %v: the limit is %d a second", src, callRate)
	} else {
		c.left--
	}
	if err != nil && now.Sub(c.logged) > time.Minute {
		c.logged = now
		g.log.Warn("registry rejects a call", "from", src, "err", err)
	}
	return err
}

// callerLocked returns the state of an address, with the calls that it may make
// by now.
func (g *guard) callerLocked(src netip.Addr, now time.Time) *callerState {
	if now.Sub(g.swept) > maxQuiet {
		g.swept = now
		for a, c := range g.callers {
			if c.conns == 0 && now.Sub(c.seen) > maxQuiet {
				delete(g.callers, a)
			}
		}
	}
	c := g.callers[src]
	if c == nil {
		c = &callerState{left: callBurst, seen: now}
		g.callers[src] = c
	}
	c.left = min(c.left+now.Sub(c.seen).Seconds()*callRate, callBurst)
	c.seen = now
	return c
}

// bind rejects a caller that acts for another node than its own: it must call
// from the next hop of the node's blocks, or show a certificate that names the
// node.
func (g *guard) bind(ctx context.Context, by ipam.Caller) error {
	if g == nil {
		return nil
	}
	src := sourceOfCall(ctx)
	cert := certificateOf(ctx)
	switch {
	case !src.IsValid(), src == by.Address, src == by.Address6, names(cert, by):
		return nil
	case by.Instance == "" && !by.Address.IsValid() && !by.Address6.IsValid():
		return nil // an older version: the registry decides its rights
	case src.IsLoopback():
		return nil // this machine
	}
	how := ""
	if cert != nil {
		how = ", and its certificate names neither the node nor the address"
	}
	return status.Errorf(codes.PermissionDenied,
		"node %q announces its blocks from %s and calls from %v%s: set node.address to the address it calls from, or give it a certificate that names it",
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

// sourceOfCall returns the address that a call comes from; zero for a call that
// is not from the network.
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

// certificateOf returns the verified certificate of a caller; nil: none.
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
