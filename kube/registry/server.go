package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"google.golang.org/grpc"

	"onlink/ipam"
	"onlink/ipam/remote"
	"onlink/kube/api/v1alpha1"
	"onlink/kube/client"
	onlinkv1 "onlink/proto/v1"
)

// Options describe the registry of one node.
type Options struct {
	Client *client.Client
	// Node is the name of the node: the only one that calls are accepted for.
	Node string
	// Namespace is that of the Leases.
	Namespace string
	Log       *slog.Logger
	// All reports whether this node lists the blocks and addresses of all nodes:
	// it is a reflector or in a mesh. nil: never.
	All func() bool
	// ListAge is how long such a list is answered again. Default: 30 s.
	ListAge time.Duration
	// Pool returns an IPPool, nil when there is none of that name. nil: read
	// from the API server with each claim.
	Pool func(ctx context.Context, name string) (*v1alpha1.IPPool, error)
	// PodCIDRs returns Node.spec.podCIDRs of this node. nil: read from the API
	// server with each claim from a pool with fromNodePodCIDR.
	PodCIDRs func(ctx context.Context) ([]string, error)
}

// Server is the block registry of one node. It is an [ipam.Registry]; all its
// methods may be called concurrently.
type Server struct {
	opt   Options
	grpc  *grpc.Server
	all   *allNodes
	names *names
	pods  *podCIDRs
	own   *holdings
}

var (
	_ ipam.Registry      = (*Server)(nil)
	_ ipam.NodeLister    = (*Server)(nil)
	_ ipam.ForceReleaser = (*Server)(nil)
)

// New returns the registry. It calls the API server with the first call only.
func New(opt Options) *Server {
	if opt.ListAge <= 0 {
		opt.ListAge = 30 * time.Second
	}
	if opt.All == nil {
		opt.All = func() bool { return false }
	}
	s := &Server{opt: opt}
	s.names = &names{opt: &s.opt, seen: map[string]sighting{}}
	s.pods = &podCIDRs{opt: &s.opt}
	s.all = &allNodes{s: s}
	s.own = &holdings{opt: &s.opt, changed: s.all.forget, blocks: map[netip.Prefix]*v1alpha1.Block{}}
	s.grpc = grpc.NewServer(
		grpc.Creds(peerCredentials{}), grpc.UnaryInterceptor(onlyAgent), grpc.MaxConcurrentStreams(32), grpc.ConnectionTimeout(10*time.Second),
	)
	onlinkv1.RegisterRegistryServer(s.grpc, &service{RegistryServer: remote.NewService(s, s.audit), s: s})
	return s
}

// Serve answers calls on a listener of a Unix socket, which it closes, until ctx
// ends. It returns nil then.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-ended:
			return
		case <-ctx.Done():
		}
		stop := time.AfterFunc(5*time.Second, s.grpc.Stop) // a call that waits for the API server
		s.grpc.GracefulStop()
		stop.Stop()
	}()
	// A stop before the start is no failure: a signal may come at any moment.
	if err := s.grpc.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve registry: %w", err)
	}
	return nil
}

// audit logs an operator's action.
func (s *Server) audit(_ context.Context, action, target string, deed func() ([]ipam.Block, error)) ([]ipam.Block, error) {
	blocks, err := deed()
	s.opt.Log.Warn("registry action by an operator's command or for a silent machine", "action", action, "target", target, "blocks", len(blocks), "err", err)
	return blocks, err
}

// mine rejects a caller that names another node: one registry serves one node.
func (s *Server) mine(by ipam.Caller) error {
	if by.Node != s.opt.Node {
		return fmt.Errorf("%w: this registry serves node %q and the call is node %q's: set node.name of the agent to the name of its Node",
			ipam.ErrInvalidRequest, s.opt.Node, by.Node)
	}
	return nil
}
