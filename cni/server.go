package cni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"onlink/cni/pod"
	onlinkv1 "onlink/proto/v1"
)

// Config is what a [Server] needs of the agent.
type Config struct {
	IPAM   IPAM   // required
	Routes Routes // required

	// Senders is told which MAC address each pod may send from. Nil: a pod may
	// send from any.
	Senders Senders
	// Sysctls are the extra sysctls that pods may have, as names with dots, with
	// * and ? as in path.Match, until SetSysctls. Nil: none.
	Sysctls []string
	// MTU returns the MTU of new pod interfaces in bytes: the underlay's less
	// the tunnel's overhead. Nil, or 0: the kernel's default.
	MTU func() int
	// IPv6 reports whether pods get IPv6 addresses, so that the self-test tries
	// those too. Nil: no.
	IPv6 func() bool
	// Ready returns nil when the agent can serve. Its error is what ADD and
	// STATUS answer with, as "try again later" and "not available"; an error
	// that wraps [ErrLimited] or [ErrNotAvailable] lets ADD try all the same.
	// Nil: always ready.
	Ready func() error

	Table  uint32       // routing table of pod routes; 0: main
	Metric uint32       // metric of pod routes, the same that fib uses; 0: the kernel's default
	Log    *slog.Logger // nil: discard
}

// Server is the agent's side of CNI. It implements onlinkv1.CNIServer.
type Server struct {
	onlinkv1.UnimplementedCNIServer

	cfg    Config
	host   *pod.Host
	reaper *pod.Reaper
	locks  keyLock // by attachment

	counters counters
	tender   tender
	prober   prober
	sysctls  atomic.Pointer[[]string] // what pods may have
}

// undoTimeout bounds the undoing of a failed ADD, which no longer listens to
// its request's cancellation.
const undoTimeout = 15 * time.Second

// NewServer returns a server that wires pods to the network namespace of the
// calling thread. It starts nothing; see [Server.Serve].
func NewServer(cfg Config) (*Server, error) {
	if cfg.IPAM == nil || cfg.Routes == nil {
		return nil, fmt.Errorf("new CNI server: %w: IPAM and Routes are required", ErrInternal)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Senders == nil {
		cfg.Senders = allSenders{}
	}
	if cfg.Table == 0 {
		cfg.Table = unix.RT_TABLE_MAIN
	}
	host, err := pod.OpenHost()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, host: host, tender: tender{looks: make(chan struct{}, 1)}, prober: prober{again: make(chan struct{}, 1)}}
	s.reaper = pod.NewReaper(host, pod.ReaperConfig{Release: cfg.IPAM.Release, Forget: cfg.Senders.Forget, Log: cfg.Log})
	s.SetSysctls(cfg.Sysctls)
	return s, nil
}

// SetSysctls changes which extra sysctls the pods of later requests may have;
// see [Config.Sysctls]. The caller changes the list no more.
func (s *Server) SetSysctls(allowed []string) { s.sysctls.Store(&allowed) }

// Close frees what NewServer took. Serve must have returned.
func (s *Server) Close() error { return s.host.Close() }

// Add serves ADD.
func (s *Server) Add(ctx context.Context, in *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error) {
	return s.answer(ctx, verbAdd, in, s.add)
}

// Del serves DEL.
func (s *Server) Del(ctx context.Context, in *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error) {
	return s.answer(ctx, verbDel, in, s.del)
}

// Check serves CHECK.
func (s *Server) Check(ctx context.Context, in *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error) {
	return s.answer(ctx, verbCheck, in, s.check)
}

// Gc serves GC.
func (s *Server) Gc(ctx context.Context, in *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error) {
	return s.answer(ctx, verbGC, in, s.gc)
}

// Status serves STATUS.
func (s *Server) Status(ctx context.Context, in *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error) {
	return s.answer(ctx, verbStatus, in, s.status)
}

// answer reads the request, runs the verb and turns its outcome into what the
// shim prints. gRPC errors are left to the transport.
func (s *Server) answer(ctx context.Context, v verb, in *onlinkv1.CNIRequest, run func(context.Context, *request) ([]byte, error)) (*onlinkv1.CNIReply, error) {
	start := time.Now()
	r, err := parseRequest(v, in)
	var out []byte
	if err == nil {
		out, err = run(ctx, r)
	}
	s.counters.count(v.name, time.Since(start), err)
	// Not a logger of its own: it would be made for every request, mostly to
	// say nothing.
	about := []any{
		"verb", v.name, "container", r.ContainerID, "ifname", r.IfName, "namespace", r.Namespace, "pod", r.Pod,
		"duration", time.Since(start),
	}
	if err != nil {
		s.cfg.Log.Warn("cni request failed", append(about, "err", err)...)
		return &onlinkv1.CNIReply{Stdout: newErrorObject(r.version(), err).encode(), ExitCode: 1}, nil
	}
	s.cfg.Log.Debug("cni request served", about...)
	return &onlinkv1.CNIReply{Stdout: out}, nil
}

// ready returns why ADD would fail, or the agent's own error.
func (s *Server) ready() error {
	if err := s.Trouble(); err != nil {
		return err
	}
	if s.cfg.Ready == nil {
		return nil
	}
	return s.cfg.Ready()
}

// status answers STATUS: an empty answer says that ADD would be served.
func (s *Server) status(_ context.Context, _ *request) ([]byte, error) {
	err := s.ready()
	if err == nil || errors.Is(err, ErrLimited) || errors.Is(err, ErrNotAvailable) {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %w", ErrNotAvailable, err)
}
