package remote

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// ClientConfig describes the connection to a registry.
type ClientConfig struct {
	// Target is host:port, or another target of gRPC such as unix:///path.
	Target string
	// TLS returns the configuration of each new connection; nil: plain text.
	TLS func() *tls.Config
	// Dial connects to an address; nil: from any address of this machine.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Registry is the block registry that another agent serves. It is safe for
// concurrent use; the caller's context bounds every call.
type Registry struct {
	client onlinkv1.RegistryClient
	conn   *grpc.ClientConn
	name   string // in errors
}

var (
	_ ipam.Registry      = (*Registry)(nil)
	_ ipam.NodeLister    = (*Registry)(nil)
	_ ipam.ForceReleaser = (*Registry)(nil)
)

// Open returns the registry. It does not wait for the other agent: calls fail
// until that answers.
func Open(c ClientConfig) (*Registry, error) {
	creds := insecure.NewCredentials()
	if c.TLS != nil {
		creds = renewed{credentials.NewTLS(c.TLS()), c.TLS}
	}
	name, redial := "registry", redialLast
	if local := strings.HasPrefix(c.Target, "unix:"); local {
		// No other connection goes this way, and a try costs next to nothing: a node
		// that boots waits for the process that serves the socket.
		name, redial = "registry at "+c.Target, redialLocal
		c.Dial = nil
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		// gRPC waits two minutes at last: a node would be unknown so long to a
		// registry that is back and has lost its file.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: redial},
			MinConnectTimeout: redialLast,
		}),
	}
	if c.Dial != nil {
		opts = append(opts, grpc.WithContextDialer(c.Dial))
	}
	conn, err := grpc.NewClient(c.Target, opts...)
	if err != nil {
		return nil, fmt.Errorf("open registry client: %w", err)
	}
	return &Registry{onlinkv1.NewRegistryClient(conn), conn, name}, nil
}

// The longest wait before the next try to connect, over the network and to a
// process of this machine.
const (
	redialLast  = 3 * time.Second
	redialLocal = 250 * time.Millisecond
)

// Close ends the connection.
func (c *Registry) Close() error { return c.conn.Close() }

// failed returns the registry's error that a gRPC status carries.
func (c *Registry) failed(err error) error { return errorFromWire(c.name, err) }

// Claim implements ipam.Registry.
func (c *Registry) Claim(ctx context.Context, r ipam.ClaimRequest) (ipam.Block, error) {
	rep, err := c.client.Claim(ctx, claimToWire(r))
	if err != nil {
		return ipam.Block{}, c.failed(err)
	}
	return blockFromWire(rep.GetBlock())
}

// Release implements ipam.Registry.
func (c *Registry) Release(ctx context.Context, by ipam.Caller, b ipam.Block) error {
	_, err := c.client.Release(ctx, &onlinkv1.ReleaseRequest{Block: blockToWire(b), By: callerToWire(by)})
	return c.failed(err)
}

// Assert implements ipam.Registry.
func (c *Registry) Assert(ctx context.Context, by ipam.Caller, held []ipam.Block) ([]ipam.Block, error) {
	rep, err := c.client.Assert(ctx, &onlinkv1.AssertRequest{Node: by.Node, Blocks: blocksToWire(held), By: callerToWire(by)})
	if err != nil {
		return nil, c.failed(err)
	}
	return blocksFromWire(rep.GetLost())
}

// List implements ipam.Registry.
func (c *Registry) List(ctx context.Context, node string) ([]ipam.Block, error) {
	rep, err := c.client.List(ctx, &onlinkv1.ListRequest{Node: node})
	if status.Code(err) == codes.Unimplemented {
		return nil, fmt.Errorf("%s: %w", c.name, ipam.ErrUnlisted)
	}
	if err != nil {
		return nil, c.failed(err)
	}
	return blocksFromWire(rep.GetBlocks())
}

// Nodes implements ipam.NodeLister. An agent of the version before this call
// lists none.
func (c *Registry) Nodes(ctx context.Context) ([]ipam.Node, error) {
	rep, err := c.client.Nodes(ctx, &onlinkv1.NodesRequest{})
	if status.Code(err) == codes.Unimplemented {
		return nil, nil
	}
	if err != nil {
		return nil, c.failed(err)
	}
	return nodesFromWire(rep)
}

// ForceRelease implements ipam.ForceReleaser.
func (c *Registry) ForceRelease(ctx context.Context, node string, force bool) ([]ipam.Block, error) {
	rep, err := c.client.ForceRelease(ctx, &onlinkv1.ForceReleaseRequest{Node: node, Force: force})
	if err != nil {
		return nil, c.failed(err)
	}
	return blocksFromWire(rep.GetBlocks())
}

// TakeOver implements ipam.Registry.
func (c *Registry) TakeOver(ctx context.Context, by ipam.Caller, from string, force bool) ([]ipam.Block, error) {
	rep, err := c.client.TakeOver(ctx, &onlinkv1.TakeOverRequest{By: callerToWire(by), From: from, Force: force})
	if err != nil {
		return nil, c.failed(err)
	}
	return blocksFromWire(rep.GetBlocks())
}
