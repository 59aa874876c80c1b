package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"onlink/internal/tlsfiles"
	onlinkv1 "onlink/proto/v1"
)

// errUnreachable ends explain with exit code 1; its text is printed already.
var errUnreachable = errors.New("unreachable")

// connection is a client of the agent that keeps the error of its last dial:
// gRPC keeps only the text of it.
type connection struct {
	onlinkv1.AdminClient
	onlinkv1.RuntimeClient
	onlinkv1.NodesClient

	app  *app
	conn *grpc.ClientConn
	tls  *tls.Config // nil: the agent is behind a unix socket

	mu      sync.Mutex
	dialErr error // guarded by mu: gRPC dials in its own goroutine
}

// connect prepares a client; the socket is opened by the first call.
func (a *app) connect() (*connection, error) {
	c := &connection{app: a}
	if a.server != "" {
		var err error
		if c.tls, err = a.remote(); err != nil {
			return nil, err
		}
	}
	conn, err := grpc.NewClient("passthrough:///onlinkd",
		// TLS is the dialer's, because its errors say what is wrong with which
		// certificate.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(c.dial),
		// The largest configuration file, and why it is not in force.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxFile+256<<10)))
	if err != nil {
		return nil, fmt.Errorf("prepare client: %w", err)
	}
	c.conn, c.AdminClient, c.RuntimeClient, c.NodesClient = conn, onlinkv1.NewAdminClient(conn), onlinkv1.NewRuntimeClient(conn), onlinkv1.NewNodesClient(conn)
	return c, nil
}

// remote returns TLS for the agent on another machine.
func (a *app) remote() (*tls.Config, error) {
	files, err := a.tls.Open()
	if err != nil {
		return nil, fmt.Errorf("--tls-ca, --tls-cert and --tls-key: %w", err)
	}
	host, _, err := net.SplitHostPort(a.server)
	if err != nil {
		return nil, fmt.Errorf("--server %s: %w", a.server, err)
	}
	c := files.Client()
	c.ServerName, c.NextProtos = host, []string{"h2"}
	return c, nil
}

func (c *connection) dial(ctx context.Context, _ string) (net.Conn, error) {
	conn, err := c.open(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialErr = err
	return conn, err
}

// open makes a connection, with the handshake of TLS.
func (c *connection) open(ctx context.Context) (net.Conn, error) {
	if c.tls == nil {
		var d net.Dialer
		return d.DialContext(ctx, "unix", c.app.socket)
	}
	return tlsfiles.Dial(ctx, c.app.server, c.tls)
}

func (c *connection) close() error { return c.conn.Close() }

// problem turns the error of a call into a line for an operator.
func (c *connection) problem(err error) error {
	c.mu.Lock()
	dialErr := c.dialErr
	c.mu.Unlock()
	if dialErr != nil {
		return c.app.unreached(dialErr)
	}
	s, where := status.Convert(err), c.app.where()
	switch s.Code() {
	case codes.DeadlineExceeded:
		return fmt.Errorf("the agent at %s did not answer within %s; try a longer --timeout, and see journalctl -u onlinkd", where, c.app.timeout)
	case codes.Unimplemented:
		return fmt.Errorf("the agent at %s does not support this request: it is older than onlinkctl; see onlinkctl version", where)
	case codes.Unavailable:
		return fmt.Errorf("the agent at %s closed the connection: %s; see systemctl status onlinkd", where, clean(s.Message()))
	default:
		return errors.New(clean(s.Message()))
	}
}

// where names the agent's endpoint.
func (a *app) where() string {
	if a.server != "" {
		return a.server
	}
	return a.socket
}

// unreached returns why the agent cannot be reached, and the remedy.
func (a *app) unreached(err error) error {
	if a.server == "" {
		return socketProblem(a.socket, err)
	}
	if verify, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		shown := ""
		if len(verify.UnverifiedCertificates) > 0 {
			shown = " " + verify.UnverifiedCertificates[0].Subject.String()
		}
		return fmt.Errorf("the certificate%s of the agent at %s is not accepted: %w; %s", clean(shown), a.server, verify.Err, a.remedy(verify.Err))
	}
	if _, alert, ok := strings.Cut(err.Error(), "remote error: tls: "); ok {
		return fmt.Errorf("the agent at %s rejects the certificate %s (%s): use one of its authority (api.admin.tls.ca) that is valid now; onlinkctl pki show prints it",
			a.server, a.tls.Cert, clean(alert))
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("no process listens on %s; see that api.admin.tcp of the agent is this address, and that the agent runs", a.server)
	}
	return fmt.Errorf("connect to the agent at %s: %w", a.server, err)
}

// remedy returns what makes the agent's certificate acceptable.
func (a *app) remedy(err error) string {
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "use a name or address that is in it, or issue one that has this: onlinkctl pki issue --dns or --ip"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "issue a new one (onlinkctl pki issue), and check the clocks of both machines"
	}
	return fmt.Sprintf("--tls-ca %s must be the authority that issued it", a.tls.CA)
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
