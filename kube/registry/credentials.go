package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// peerCredentials are the transport of a Unix socket: plain, with the user at the
// other end as the kernel names it (SO_PEERCRED).
type peerCredentials struct{}

// peerInfo is the user at the other end of a connection.
type peerInfo struct {
	uid uint32
	pid int32
}

// AuthType implements [credentials.AuthInfo].
func (peerInfo) AuthType() string { return "SO_PEERCRED" }

// ServerHandshake reads the user of a connection. It rejects none: a closed
// connection has no words, and the call that comes over it gets some.
func (peerCredentials) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil, nil, fmt.Errorf("connection of %T has no peer credentials: serve on a Unix socket", c)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, nil, fmt.Errorf("read peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return nil, nil, fmt.Errorf("read peer credentials: %w", err)
	}
	if cerr != nil {
		return nil, nil, fmt.Errorf("read peer credentials: %w", cerr)
	}
	return c, peerInfo{uid: cred.Uid, pid: cred.Pid}, nil
}

// ClientHandshake implements [credentials.TransportCredentials].
func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a server's")
}

// Info implements [credentials.TransportCredentials].
func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix"}
}

// Clone implements [credentials.TransportCredentials].
func (c peerCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements [credentials.TransportCredentials].
func (peerCredentials) OverrideServerName(string) error { return nil }

// onlyAgent rejects calls of users other than root, as which the agent runs, and
// this process's own. The code is none that an agent takes for a registry's answer.
func onlyAgent(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "the registry serves callers on its Unix socket only")
	}
	who, ok := p.AuthInfo.(peerInfo)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "the registry serves callers on its Unix socket only")
	}
	if own := os.Getuid(); who.uid != 0 && int64(who.uid) != int64(own) {
		return nil, status.Errorf(codes.Unauthenticated,
			"the registry rejects user %d (process %d): it serves the agent, which runs as user 0, and user %d", who.uid, who.pid, own)
	}
	return next(ctx, req)
}
