package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"
	"sync"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	onlinkv1 "onlink/proto/v1"
)

// errUnreachable ends explain with exit code 1; its text is printed already.
var errUnreachable = errors.New("unreachable")

// connection is a client of the agent that keeps the error of its last dial:
// gRPC keeps only the text of it.
type connection struct {
	onlinkv1.AdminClient
	app  *app
	conn *grpc.ClientConn

	mu      sync.Mutex
	dialErr error // guarded by mu: gRPC dials in its own goroutine
}

// connect prepares a client; the socket is opened by the first call.
func (a *app) connect() (*connection, error) {
	c := &connection{app: a}
	conn, err := grpc.NewClient("passthrough:///onlinkd",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(c.dial))
	if err != nil {
		return nil, fmt.Errorf("prepare client: %w", err)
	}
	c.conn, c.AdminClient = conn, onlinkv1.NewAdminClient(conn)
	return c, nil
}

func (c *connection) dial(ctx context.Context, _ string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.app.socket)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialErr = err
	return conn, err
}

func (c *connection) close() error { return c.conn.Close() }

// problem turns the error of a call into a line for an operator.
func (c *connection) problem(err error) error {
	c.mu.Lock()
	dialErr := c.dialErr
	c.mu.Unlock()
	if dialErr != nil {
		return socketProblem(c.app.socket, dialErr)
	}
	s := status.Convert(err)
	switch s.Code() {
	case codes.DeadlineExceeded:
		return fmt.Errorf("the agent at %s did not answer within %s; try a longer --timeout, and see journalctl -u onlinkd", c.app.socket, c.app.timeout)
	case codes.Unimplemented:
		return fmt.Errorf("the agent at %s does not support this request: it is older than onlinkctl; see onlinkctl version", c.app.socket)
	case codes.Unavailable:
		return fmt.Errorf("the agent at %s closed the connection: %s; see systemctl status onlinkd", c.app.socket, clean(s.Message()))
	default:
		return errors.New(clean(s.Message()))
	}
}

// socketProblem returns why the socket cannot be used, and the remedy.
func socketProblem(socket string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("the agent is not running: no process listens on %s; see systemctl status onlinkd, or name another --socket", socket)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("no permission to use %s; %s", socket, admission(socket))
	}
	return fmt.Errorf("connect to the agent: %w", err)
}

// admission returns how to get the right to use the socket: by its group, if it
// has one of its own.
func admission(socket string) string {
	const asRoot = "run onlinkctl as root, or set api.admin.group in onlinkd.yaml to one of your groups"
	info, err := os.Stat(socket)
	if err != nil {
		return asRoot // its folder is not readable
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !ok || sys.Gid == 0 {
		return asRoot
	}
	name := strconv.FormatUint(uint64(sys.Gid), 10)
	if g, err := user.LookupGroupId(name); err == nil {
		name = g.Name
	}
	return fmt.Sprintf("run onlinkctl as root, or join the group %q: usermod -aG %s $USER, then log in again", name, name)
}
