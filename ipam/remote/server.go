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
	TLS   *tls.Config
	Audit Audit
	Log   *slog.Logger
}

// Server serves a registry to other nodes.
type Server struct {
	grpc  *grpc.Server
	guard *guard
}

// NewServer returns the server; it runs in [Server.Serve].
func NewServer(c ServerConfig) *Server {
	g := newGuard(c.Log, c.Pools)
	opts := []grpc.ServerOption{
		grpc.UnaryInterceptor(g.intercept), grpc.MaxConcurrentStreams(32), grpc.ConnectionTimeout(10 * time.Second),
	}
	if c.TLS != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(c.TLS)))
	}
	s := &Server{grpc.NewServer(opts...), g}
	onlinkv1.RegisterRegistryServer(s.grpc, &service{reg: c.Registry, audit: c.Audit, guard: g})
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
