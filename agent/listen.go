package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"slices"

	"onlink/agent/admin"
	"onlink/agent/config"
	"onlink/agent/dataplane"
	"onlink/agent/endpoint"
	"onlink/agent/glass"
	"onlink/agent/install"
	"onlink/agent/metrics"
	"onlink/agent/pods"
	"onlink/agent/rooms"
	"onlink/cni"
	"onlink/internal/version"
	"onlink/ipam"
	"onlink/ipam/remote"
)

// listen opens the CNI, admin, registry, metrics and looking glass sockets.
func (a *agent) listen() (*endpoint.Set, error) {
	s := &endpoint.Set{}
	err := errors.Join(a.listenCNI(s), a.listenAdmin(s), a.listenRegistry(s), a.listenMetrics(s), listenGlass(a))
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (a *agent) listenCNI(s *endpoint.Set) error {
	var senders cni.Senders
	if t := a.learn.plane.Filter.Senders; t != nil {
		senders = t
	}
	cfg := a.current()
	server, err := cni.NewServer(cni.Config{
		Version: version.Version, Senders: senders, Sysctls: cfg.CNI.Sysctls, IPv6: a.givesIPv6, Namespaces: a.choices.Of,
		IPAM: pods.WithFailpoints(pods.Addresses{Alloc: a.alloc}), Routes: a.learn.pods, MTU: a.learn.plane.PodMTU, Ready: a.ready, Log: a.log.With("part", "cni"),
		Table: cfg.FIB.Table, Metric: cfg.FIB.Metric,
	})
	if err != nil {
		return err
	}
	a.cni = server
	a.garbage = &pods.Collector{Log: a.log.With("part", "pods"), Server: server, Alloc: a.alloc, Routes: a.learn.pods}
	if cfg.CNI.Install.Enabled() {
		plan, err := install.Plan(cfg.CNI)
		if err != nil {
			return err
		}
		a.installer = &install.Installer{Log: a.log.With("part", "install"), Plan: plan, Ready: a.ready}
	}
	lis, err := endpoint.ListenUnix("cni.socket", cfg.CNI.Socket, 0o600, "")
	if err != nil {
		return err
	}
	s.Add(endpoint.Func(lis, server.Serve))
	return nil
}

// givesIPv6 reports whether pods of this node get IPv6 addresses.
func (a *agent) givesIPv6() bool {
	return a.poolsGiveIPv6() || slices.ContainsFunc(a.alloc.Blocks(), func(b ipam.BlockUsage) bool { return b.CIDR.Addr().Is6() })
}

func (a *agent) poolsGiveIPv6() bool {
	return slices.ContainsFunc(a.pools(), func(p config.Pool) bool { return p.CIDR.Addr().Is6() && !p.Disabled })
}

func (a *agent) listenAdmin(s *endpoint.Set) error {
	cfg := a.current().API.Admin
	local, mode := admin.Door{Reflection: cfg.Reflection}, fs.FileMode(0o660)
	if cfg.Viewers != "" {
		// A socket has one group: the door tells the two apart.
		var of [2]error
		local.Operators, of[0] = endpoint.Group("api.admin.group", cfg.Group)
		local.Viewers, of[1] = endpoint.Group("api.admin.viewers", cfg.Viewers)
		if err := errors.Join(of[:]...); err != nil {
			return err
		}
		mode = 0o666
	}
	lis, err := endpoint.ListenUnix("api.admin.socket", cfg.Socket, mode, cfg.Group)
	if err != nil {
		return err
	}
	log := a.log.With("part", "api")
	api := admin.New(a.adminConfig())
	s.Add(endpoint.GRPC("admin", endpoint.Bound(lis, adminConns, "api.admin.socket", log), api.Open(local)))
	if !cfg.TCP.IsValid() {
		return nil
	}
	if a.credentials.Admin, err = cfg.TLS.Open(); err != nil {
		return fmt.Errorf("api.admin.tls: %w", err)
	}
	if lis, err = net.Listen("tcp", cfg.TCP.String()); err != nil {
		return fmt.Errorf("api.admin.tcp: %w", err)
	}
	remote := admin.Door{TLS: a.credentials.Admin.Server(), Roles: cfg.TLS.Roles, Reflection: cfg.Reflection}
	s.Add(endpoint.GRPC("admin-tcp", endpoint.Bound(lis, adminTCPConns, "api.admin.tcp", log), api.Open(remote)))
	return nil
}

// The bounds of connections; docs/security.md has the memory that they come to.
var (
	adminConns    = endpoint.Bounds{All: 128, Each: 32}
	adminTCPConns = endpoint.Bounds{All: 128, Each: 16}
	metricsConns  = endpoint.Bounds{All: 64, Each: 16, Unsent: 256 << 10}
	glassConns    = endpoint.Bounds{All: 64, Each: 32, Unsent: 256 << 10}
)

func (a *agent) listenRegistry(s *endpoint.Set) error {
	reg := a.current().IPAM.Registry
	if !reg.Served() {
		return nil
	}
	pools, _ := rooms.Ranges(a.current().Pools)
	c := remote.ServerConfig{
		Registry: a.store.BoltRegistry().WithSettle(reg.Settle()), Pools: pools, Audit: a.audit.Do, Denied: a.audit.Denied, Log: a.log.With("part", "registry"),
	}
	if certs := a.registry.Certificates; certs != nil {
		c.TLS, c.Roles = certs.Server(), reg.TLS.Roles
	}
	lis, err := net.Listen("tcp", reg.Listen.String())
	if err != nil {
		return fmt.Errorf("ipam.registry.listen: %w", err)
	}
	a.served = remote.NewServer(c)
	s.Add(endpoint.GRPC("registry", lis, a.served))
	return nil
}

func (a *agent) listenMetrics(s *endpoint.Set) error {
	addr := a.current().API.Metrics
	if !addr.IsValid() {
		return nil
	}
	lis, err := net.Listen("tcp", addr.String())
	if err != nil {
		return fmt.Errorf("api.metrics: %w; set another address, or off", err)
	}
	lis = endpoint.Bound(lis, metricsConns, "api.metrics", a.log.With("part", "api"))
	s.Add(endpoint.HTTP("metrics", lis, monitoring(a)))
	return nil
}

// listenGlass opens the looking glass, where the configuration has an address for it.
func listenGlass(a *agent) error {
	a.glass = endpoint.NewMovable("api.glass", glassConns, a.log.With("part", "api"), glass.New(glassConfig(a)))
	return a.glass.Set(a.current().API.Glass)
}

// monitoring returns the handler of the monitoring endpoints.
func monitoring(a *agent) http.Handler {
	return metrics.Handler(a.board, dataplane.NewDrops(a.log.With("part", "metrics"), a.learn.plane.Filter.Writes()).Read)
}
