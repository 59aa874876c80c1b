package remote

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"onlink/internal/gate"
	"onlink/internal/identity"
	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// Audit records a forced action of a caller, before deed does it and with its
// outcome after. It returns the result of deed, or an error of its own if nothing
// was done. Actions are those of [ipam.AuditEntry].
type Audit func(ctx context.Context, action, target string, deed func() ([]ipam.Block, error)) ([]ipam.Block, error)

// ServerConfig describes the registry to serve.
type ServerConfig struct {
	Registry ipam.Registry
	// Pools are the ranges whose addresses are pods': calls from them are
	// rejected.
	Pools []netip.Prefix
	// TLS is nil for plain text.
	TLS *tls.Config
	// Roles has the identities of certificates that have none of their own.
	Roles identity.Map
	Audit Audit
	// Denied is called for each call that the caller's certificate does not permit;
	// nil: they are rejected alone.
	Denied func(ctx context.Context, method, why string)
	Log    *slog.Logger
}

// Bounds of a connection, beside those of the guard.
const (
	maxHeaders = 64 << 10         // bytes of a call's headers
	window     = 64 << 10         // bytes of a message that arrive before it is read
	maxIdle    = 30 * time.Minute // without a call: nodes assert every ten minutes at least
	pingEvery  = 2 * time.Minute  // of a connection that is silent: a dead one is closed
)

// Server serves a registry to other nodes.
type Server struct {
	grpc  *grpc.Server
	guard *guard
}

// NewServer returns the server; it runs in [Server.Serve].
func NewServer(c ServerConfig) *Server {
	g := newGuard(c.Log, c.Pools)
	g.tls, g.roles, g.onDenied = c.TLS != nil, c.Roles, c.Denied
	idle := keepalive.ServerParameters{MaxConnectionIdle: maxIdle, Time: pingEvery}
	opts := []grpc.ServerOption{
		grpc.StreamInterceptor(g.intercept), grpc.MaxConcurrentStreams(32), grpc.ConnectionTimeout(10 * time.Second), grpc.KeepaliveParams(idle),
		grpc.MaxHeaderListSize(maxHeaders), grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(window),
	}
	if c.TLS != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(c.TLS)))
	}
	s := &Server{grpc.NewServer(opts...), g}
	services := gate.Registrar(s.grpc)
	onlinkv1.RegisterRegistryServer(services, &service{reg: c.Registry, audit: c.Audit, guard: g})
	alive := health.NewServer()
	alive.SetServingStatus(onlinkv1.Registry_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_SERVING)
	healthv1.RegisterHealthServer(services, alive)
	return s
}

// Serve answers calls on a listener, which it closes, until the server is
// stopped; it returns nil then.
func (s *Server) Serve(lis net.Listener) error { return s.grpc.Serve(s.guard.limit(lis)) }

// GracefulStop ends the server after the calls under way.
func (s *Server) GracefulStop() { s.grpc.GracefulStop() }

// Stop ends the server and the calls under way.
func (s *Server) Stop() { s.grpc.Stop() }

// SetPools replaces the ranges whose addresses are pods'. A nil server, of a
// node that serves no registry, has none.
func (s *Server) SetPools(pools []netip.Prefix) {
	if s != nil {
		s.guard.setPools(pools)
	}
}
