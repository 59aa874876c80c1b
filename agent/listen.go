package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"onlink/agent/admin"
	"onlink/agent/config"
	"onlink/agent/install"
	"onlink/agent/metrics"
	"onlink/agent/pods"
	"onlink/cni"
	"onlink/ipam"
	"onlink/ipam/remote"
)

// endpoint is one listening socket and the gRPC server behind it.
type endpoint struct {
	name string
	lis  net.Listener
	srv  server
}

// server is a [grpc.Server], or what has one inside.
type server interface {
	Serve(lis net.Listener) error
	GracefulStop()
	Stop()
}

// sockets are all doors of the agent. They are opened before anything runs, so
// that a busy one is an error at start.
type sockets struct {
	grpc    []endpoint
	metrics net.Listener
	http    *http.Server
	cni     *cni.Server
	cniLis  net.Listener
}

// listen opens the CNI, admin, registry and metrics sockets.
func (a *agent) listen() (*sockets, error) {
	s := &sockets{}
	err := errors.Join(a.listenCNI(s), a.listenAdmin(s), a.listenRegistry(s), a.listenMetrics(s))
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (a *agent) listenCNI(s *sockets) (err error) {
	var senders cni.Senders
	if t := a.learn.plane.Filter.Senders; t != nil {
		senders = t
	}
	cfg := a.current()
	s.cni, err = cni.NewServer(cni.Config{
		Senders: senders, Sysctls: cfg.CNI.Sysctls, IPv6: a.givesIPv6,
		IPAM: withFailpoints(pods.Addresses{Alloc: a.alloc}), Routes: a.learn.pods, MTU: a.learn.plane.PodMTU, Ready: a.ready, Log: a.log.With("part", "cni"),
		Table: cfg.FIB.Table, Metric: cfg.FIB.Metric,
	})
	if err != nil {
		return err
	}
	a.cni = s.cni
	a.garbage = &pods.Collector{Log: a.log, Server: s.cni, Alloc: a.alloc, Routes: a.learn.pods}
	if cfg.CNI.Install.Enabled() {
		plan, err := install.Plan(cfg.CNI)
		if err != nil {
			return err
		}
		a.installer = &install.Installer{Log: a.log, Plan: plan, Ready: a.ready}
	}
	s.cniLis, err = listenUnix("cni.socket", cfg.CNI.Socket, 0o600, "")
	return err
}

// givesIPv6 reports whether pods of this node get IPv6 addresses.
func (a *agent) givesIPv6() bool {
	return a.poolsGiveIPv6() || slices.ContainsFunc(a.alloc.Blocks(), func(b ipam.BlockUsage) bool { return b.CIDR.Addr().Is6() })
}

func (a *agent) poolsGiveIPv6() bool {
	return slices.ContainsFunc(a.pools(), func(p config.Pool) bool { return p.CIDR.Addr().Is6() && !p.Disabled })
}

func (a *agent) listenAdmin(s *sockets) error {
	cfg := a.current().API.Admin
	lis, err := listenUnix("api.admin.socket", cfg.Socket, 0o660, cfg.Group)
	if err != nil {
		return err
	}
	api := admin.New(a.adminConfig())
	s.add("admin", lis, grpc.NewServer(grpc.Creds(admin.PeerCredentials())), api.Register)
	if tcp := cfg.TCP; tcp.IsValid() {
		c, err := serverTLS(cfg.TLS)
		if err != nil {
			return fmt.Errorf("api.admin.tls: %w", err)
		}
		lis, err := net.Listen("tcp", tcp.String())
		if err != nil {
			return fmt.Errorf("api.admin.tcp: %w", err)
		}
		s.add("admin-tcp", lis, grpc.NewServer(grpc.Creds(credentials.NewTLS(c))), api.Register)
	}
	return nil
}

func (a *agent) listenRegistry(s *sockets) error {
	reg := a.current().IPAM.Registry
	if reg.Kind != config.RegistryBolt || !reg.Listen.IsValid() {
		return nil
	}
	pools, _ := poolRanges(a.current().Pools)
	c := remote.ServerConfig{
		Registry: a.store.BoltRegistry().WithSettle(reg.Settle()), Pools: pools, Audit: a.audit.Do, Log: a.log.With("part", "registry"),
	}
	if reg.TLS.Enabled() {
		var err error
		if c.TLS, err = serverTLS(reg.TLS); err != nil {
			return fmt.Errorf("ipam.registry.tls: %w", err)
		}
	}
	lis, err := net.Listen("tcp", reg.Listen.String())
	if err != nil {
		return fmt.Errorf("ipam.registry.listen: %w", err)
	}
	a.served = remote.NewServer(c)
	s.grpc = append(s.grpc, endpoint{"registry", lis, a.served})
	return nil
}

func (a *agent) listenMetrics(s *sockets) error {
	addr := a.current().API.Metrics
	if !addr.IsValid() {
		return nil
	}
	lis, err := net.Listen("tcp", addr.String())
	if err != nil {
		return fmt.Errorf("api.metrics: %w; set another address, or off", err)
	}
	s.metrics = lis
	s.http = &http.Server{Handler: metrics.Handler(a.board), ReadHeaderTimeout: 5 * time.Second}
	return nil
}

func (s *sockets) add(name string, lis net.Listener, srv *grpc.Server, register func(*grpc.Server)) {
	register(srv)
	s.grpc = append(s.grpc, endpoint{name, lis, srv})
}

// serve runs every server until ctx ends.
func (s *sockets) serve(ctx context.Context, g *errgroup.Group) {
	for _, e := range s.grpc {
		g.Go(func() error {
			if err := e.srv.Serve(e.lis); err != nil {
				return fmt.Errorf("serve %s: %w", e.name, err)
			}
			return nil
		})
	}
	g.Go(func() error { return s.cni.Serve(ctx, s.cniLis) })
	if s.http != nil {
		g.Go(func() error {
			if err := s.http.Serve(s.metrics); err != nil && !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve metrics: %w", err)
			}
			return nil
		})
	}
	g.Go(func() error {
		<-ctx.Done()
		s.stop()
		return nil
	})
}

// stop ends the servers; requests under way get a moment to finish.
func (s *sockets) stop() {
	for _, e := range s.grpc {
		t := time.AfterFunc(time.Second, e.srv.Stop)
		e.srv.GracefulStop()
		t.Stop()
	}
	if s.http != nil {
		s.http.Close() //nolint:errcheck,gosec // nothing to flush
	}
}

// close closes what was opened and never served.
func (s *sockets) close() {
	for _, e := range s.grpc {
		e.lis.Close() // closed already when served
	}
	for _, l := range []net.Listener{s.cniLis, s.metrics} {
		if l != nil {
			l.Close() // closed already when served
		}
	}
}

// listenUnix opens a unix socket with the given mode and group. A socket file
// that nobody answers is a leftover of a killed run and is replaced; one that
// answers belongs to a running agent.
func listenUnix(field, path string, mode fs.FileMode, group string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // the sockets guard themselves
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close() // only a probe
		return nil, fmt.Errorf("%s: %s is served by another process; stop it or choose another path", field, path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: remove stale socket: %w", field, err)
	}
	lis, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	if err := own(path, mode, group); err != nil {
		lis.Close() // the error that matters is err
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	return lis, nil
}

func own(path string, mode fs.FileMode, group string) error {
	if err := os.Chmod(path, mode); err != nil {
		return err
	}
	if group == "" {
		return nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return fmt.Errorf("group %s: id %q is not a number", group, g.Gid)
	}
	return os.Chown(path, 0, gid)
}

// keyPair loads one mutual-TLS identity.
func keyPair(t config.TLS) (tls.Certificate, *x509.CertPool, error) {
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return cert, nil, err
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return cert, nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return cert, nil, fmt.Errorf("%s: no certificate in PEM form", t.CA)
	}
	return cert, pool, nil
}

func serverTLS(t config.TLS) (*tls.Config, error) {
	cert, pool, err := keyPair(t)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}, nil
}

func clientTLS(t config.TLS) (*tls.Config, error) {
	cert, pool, err := keyPair(t)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, MinVersion: tls.VersionTLS13}, nil
}
