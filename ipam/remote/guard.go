package remote

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"onlink/internal/identity"
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
// which are pods'; from an address that calls more often than a node needs; with a
// certificate of another role; and from a node for another node.
type guard struct {
	log      *slog.Logger
	tls      bool         // callers show certificates
	roles    identity.Map // of certificates that have none of their own
	onDenied func(ctx context.Context, method, why string)

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
