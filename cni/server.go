package cni

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"onlink/cni/pod"
	onlinkv1 "onlink/proto/v1"
)

// Server is the agent's side of CNI: it serves the protocol, and leaves the pods
// to its parts. It implements onlinkv1.CNIServer.
type Server struct {
	onlinkv1.UnimplementedCNIServer

	cfg       *Config
	pods      *connector
	collector *collector
	tender    *tender
	prober    *prober

	counters counters
	sysctls  atomic.Pointer[[]string] // the names that pods may have
	shim     atomic.Pointer[string]   // the version of the plugin that called last; nil: none did
}

// NewServer returns a server that wires pods to the network namespace of the
// calling thread. It starts nothing; see [Server.Serve].
func NewServer(config Config) (*Server, error) {
	cfg, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	host, err := pod.OpenHost()
	if err != nil {
		return nil, err
	}
	pods := newConnector(&cfg, host)
	s := &Server{
		cfg: &cfg, pods: pods,
		collector: &collector{&cfg, pods}, tender: newTender(&cfg, pods), prober: newProber(&cfg, pods),
	}
	pods.failed = s.prober.suspect
	s.SetSysctls(cfg.Sysctls)
	return s, nil
}

// SetSysctls changes the extra sysctls that the pods of later requests may have;
// see [Config.Sysctls]. The caller must not change the list afterwards.
func (s *Server) SetSysctls(allowed []string) { s.sysctls.Store(&allowed) }

// Close frees the resources of NewServer. Serve must have returned.
func (s *Server) Close() error { return s.pods.host.Close() }

// Add serves ADD.
func (s *Server) Add(ctx context.Context, in *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error) {
	return s.answer(ctx, verbAdd, in, s.add)
}

// Del serves DEL.
func (s *Server) Del(ctx context.Context, in *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error) {
	return s.answer(ctx, verbDel, in, s.pods.del)
}

// Check serves CHECK.
func (s *Server) Check(ctx context.Context, in *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error) {
	return s.answer(ctx, verbCheck, in, s.pods.check)
}

// Gc serves GC.
func (s *Server) Gc(ctx context.Context, in *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error) {
	return s.answer(ctx, verbGC, in, s.collector.gc)
}

// Status serves STATUS.
func (s *Server) Status(ctx context.Context, in *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error) {
	return s.answer(ctx, verbStatus, in, s.status)
}

// answer reads the request, runs the verb and returns the text and the exit code
// of the shim. Errors of gRPC are left to the transport.
func (s *Server) answer(ctx context.Context, v verb, in *onlinkv1.CNIRequest, run func(context.Context, *request) ([]byte, error)) (*onlinkv1.CNIReply, error) {
	start := time.Now()
	s.called(in)
	r, err := parseRequest(v, in)
	var out []byte
	if err == nil {
		out, err = run(ctx, r)
	}
	s.counters.count(v.name, time.Since(start), err)
	// Not a logger of its own: making one for every request would cost more than
	// the few lines that are logged.
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

// called records the version of the plugin.
func (s *Server) called(in *onlinkv1.CNIRequest) {
	if last := s.shim.Load(); last == nil || *last != in.GetVersion() {
		version := in.GetVersion()
		s.shim.Store(&version)
	}
}

// add serves ADD through the connector, while the agent is ready.
func (s *Server) add(ctx context.Context, r *request) ([]byte, error) {
	if err := s.ready(); err != nil && !errors.Is(err, ErrLimited) && !errors.Is(err, ErrNotAvailable) {
		return nil, fmt.Errorf("%w: %w", ErrRetryLater, err)
	}
	out, err := s.pods.add(ctx, r, *s.sysctls.Load())
	if err == nil {
		s.prober.doubt()
	}
	return out, err
}

// ready returns the reason that ADD would fail, or the agent's own error.
func (s *Server) ready() error {
	if err := s.prober.trouble(); err != nil {
		return err
	}
	if s.cfg.Ready == nil {
		return nil
	}
	return s.cfg.Ready()
}

// status answers STATUS: an empty answer means that ADD would be served.
func (s *Server) status(_ context.Context, _ *request) ([]byte, error) {
	err := s.ready()
	if err == nil || errors.Is(err, ErrLimited) || errors.Is(err, ErrNotAvailable) {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %w", ErrNotAvailable, err)
}

// Sweep frees the attachments of pods that ended without a DEL, as after a
// crash of the runtime, and returns them. Serve must be running.
func (s *Server) Sweep(ctx context.Context) ([]Attachment, error) { return s.collector.sweep(ctx) }

// Evict disconnects one attachment by an operator's order, in any state of its
// pod: it removes veth, route and addresses, as DEL does.
func (s *Server) Evict(ctx context.Context, a Attachment) error { return s.pods.evict(ctx, a) }

// WaitEnded returns when the pods that DEL has disconnected so far are removed
// and their addresses released.
func (s *Server) WaitEnded(ctx context.Context) error { return s.pods.reaper.Flush(ctx) }

// Look has the host ends of all pods checked soon. It neither blocks nor fails;
// the watcher of the links calls it after a change.
func (s *Server) Look() { s.tender.look() }

// Trouble returns the reason that an ADD would fail, as [ErrNotAvailable]; nil:
// it would not.
func (s *Server) Trouble() error { return s.prober.trouble() }

// Problems returns the present problems for an operator: the reason that a new
// pod could not be connected, faults of the host ends of pods, and those mended
// in the last minutes.
func (s *Server) Problems() []string {
	out := s.tender.problems()
	if err := s.prober.trouble(); err != nil {
		out = append(out, err.Error())
	}
	slices.Sort(out)
	return out
}

// Notes says that the plugin which called last is of another version than the agent.
// Agents serve the plugins of other versions, so that it is no problem.
func (s *Server) Notes() []string {
	shim := s.shim.Load()
	if s.cfg.Version == "" || shim == nil || *shim == s.cfg.Version {
		return nil
	}
	its := fmt.Sprintf("onlink-cni %.64q", *shim)
	if *shim == "" {
		its = "an onlink-cni that names no version, an older one"
	}
	return []string{fmt.Sprintf("the runtime calls %s, and the agent is %q: install that of the agent's package in the folder where the runtime looks for plugins, or have cni.install do it", its, s.cfg.Version)}
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	pending, reaped := s.pods.reaper.Counts()
	return Stats{Verbs: s.counters.verbStats(), Ending: pending, Ended: reaped, Mended: s.tender.count()}
}
