package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
)

// PeerCredentials returns the credentials of a unix socket's server, by which
// the audit names the user at the other end.
func PeerCredentials() credentials.TransportCredentials { return peerCreds{} }

// peerCreds are the credentials of a unix socket's server: nothing is sent, the
// kernel identifies the client (unix(7), SO_PEERCRED). The socket's mode and
// group limit the clients.
type peerCreds struct{}

var _ credentials.TransportCredentials = peerCreds{}

// peerUser is the user at the other end of a unix socket.
type peerUser struct {
	credentials.CommonAuthInfo
	uid uint32
	pid int32
}

// AuthType implements credentials.AuthInfo.
func (peerUser) AuthType() string { return "peercred" }

// String names the user, as the audit has it.
func (p peerUser) String() string {
	id := strconv.FormatUint(uint64(p.uid), 10)
	name := "unknown"
	if u, err := user.LookupId(id); err == nil {
		name = u.Username
	}
	return fmt.Sprintf("%s (uid %s, pid %d)", name, id, p.pid)
}

// ServerHandshake implements credentials.TransportCredentials.
func (peerCreds) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	sock, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, fmt.Errorf("%T is not a unix socket", conn)
	}
	raw, err := sock.SyscallConn()
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
	return conn, peerUser{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, cred.Uid, cred.Pid}, nil
}

// ClientHandshake implements credentials.TransportCredentials; there are no
// clients with it.
func (peerCreds) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("peer credentials are for servers")
}

// Info implements credentials.TransportCredentials.
func (peerCreds) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "peercred"}
}

// Clone implements credentials.TransportCredentials.
func (c peerCreds) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials.
func (peerCreds) OverrideServerName(string) error { return nil }

// caller names the client of a request: the user at a unix socket, the name in a
// certificate, or the address of an unauthenticated client.
func caller(ctx context.Context) string {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return "unknown"
	}
	switch info := p.AuthInfo.(type) {
	case peerUser:
		return info.String()
	case credentials.TLSInfo:
		if certs := info.State.PeerCertificates; len(certs) > 0 {
			return fmt.Sprintf("%s (certificate, from %s)", certs[0].Subject, p.Addr)
		}
	}
	return fmt.Sprintf("%s (not authenticated)", p.Addr)
}
