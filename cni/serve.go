package cni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	onlinkv1 "onlink/proto/v1"
)

// DefaultSocket is the agent's socket to which the shim connects.
const DefaultSocket = "/run/onlink/cni.sock"

const (
	// maxRequest is the largest request in bytes: the shim's limit for stdin and
	// room for the environment. It is the flow control window too: with a window of
	// its own choice gRPC probes every new connection with a ping, whose answer
	// costs the shim a turn.
	maxRequest = 2 << 20
	// drainTimeout is how long requests may go on after the agent began to stop;
	// after it they are cancelled, and undo themselves.
	drainTimeout = 5 * time.Second
	handshake    = 5 * time.Second
)

// Listen listens on a unix socket that only root may open. It replaces a socket
// without a listener, as a killed agent leaves it; the caller holds the lock that
// excludes another agent.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make directory of CNI socket: %w", err)
	}
	if err := unix.Unlink(path); err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("remove old CNI socket %s: %w", path, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on CNI socket: %w", err)
	}
	// A process that connects before this has to pass Serve's check of credentials.
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("restrict CNI socket: %w", err)
	}
	return l, nil
}

// Serve answers requests on l, which it closes, until ctx is cancelled. It
// returns when every request has ended. Connections of other users than root
// are closed unread.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	g := grpc.NewServer(grpc.MaxRecvMsgSize(maxRequest), grpc.ConnectionTimeout(handshake), grpc.WaitForHandlers(true),
		grpc.InitialWindowSize(maxRequest), grpc.InitialConnWindowSize(maxRequest))
	onlinkv1.RegisterCNIServer(g, s)

	// The reaper outlives the requests.
	reapCtx, stopReaper := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReaper()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		s.pods.reaper.Run(reapCtx)
		return nil
	})
	group.Go(func() error {
		defer stopReaper()
		if err := s.collector.settle(ctx); err != nil && ctx.Err() == nil {
			_ = l.Close()
			return fmt.Errorf("settle pods of the previous run: %w", err)
		}
		s.prober.probe(ctx) // before the first STATUS
		group.Go(func() error {
			s.tender.run(ctx)
			return nil
		})
		group.Go(func() error {
			s.prober.run(ctx)
			return nil
		})
		served := make(chan error, 1)
		go func() { served <- g.Serve(&rootListener{l, s.cfg.Log}) }()
		select {
		case err := <-served:
			g.Stop()
			return fmt.Errorf("serve CNI: %w", err)
		case <-ctx.Done():
		}
		timer := time.AfterFunc(drainTimeout, g.Stop)
		defer timer.Stop()
		g.GracefulStop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("serve CNI: %w", err)
		}
		return nil
	})
	return group.Wait()
}

// rootListener accepts only root's connections. The socket's mode enforces the
// same, but modes get changed, and the agent would open a namespace path of any
// other user with its own rights.
type rootListener struct {
	net.Listener
	log *slog.Logger
}

// Accept implements net.Listener.
func (l *rootListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err //nolint:wrapcheck // gRPC inspects it
		}
		uid, err := peerUID(conn)
		if err == nil && uid == 0 {
			// A plain net.Conn: gRPC would read a socket's options, which nothing uses.
			return struct{ net.Conn }{conn}, nil
		}
		_ = conn.Close()
		l.log.Warn("cni connection refused", "uid", uid, "err", err)
	}
}

// errNotUnix is a connection that carries no credentials.
var errNotUnix = errors.New("not a unix socket")

// peerUID returns the user of the process that connected (unix(7),
// SO_PEERCRED).
func peerUID(conn net.Conn) (uint32, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, errNotUnix
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, fmt.Errorf("peer credentials: %w", err)
	}
	if credErr != nil {
		return 0, fmt.Errorf("peer credentials: %w", credErr)
	}
	return cred.Uid, nil
}
