package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/user"
	"slices"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
)

// peerCreds are the credentials of a unix socket's server: nothing is sent, the
// kernel identifies the client (unix(7), SO_PEERCRED).
type peerCreds struct{}

var _ credentials.TransportCredentials = peerCreds{}

// peerUser is the user at the other end of a unix socket.
type peerUser struct {
	credentials.CommonAuthInfo
	uid, gid uint32
	groups   []uint32 // supplementary ones
	pid      int32
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
	return fmt.Sprintf("%s (uid %s, pid %d%s)", name, id, p.pid, processText(p.pid))
}

// in reports whether the user is in a group.
func (p peerUser) in(group *uint32) bool {
	return group != nil && (p.gid == *group || slices.Contains(p.groups, *group))
}

// ServerHandshake implements credentials.TransportCredentials.
func (peerCreds) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	sock, ok := conn.(syscall.Conn)
	if !ok || conn.LocalAddr().Network() != "unix" {
		return nil, nil, fmt.Errorf("%T is not a unix socket", conn)
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return nil, nil, fmt.Errorf("read peer credentials: %w", err)
	}
	p := peerUser{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	var cerr error
	if err := raw.Control(func(fd uintptr) { cerr = p.read(int(fd)) }); err != nil {
		return nil, nil, fmt.Errorf("read peer credentials: %w", err)
	}
	if cerr != nil {
		return nil, nil, fmt.Errorf("read peer credentials: %w", cerr)
	}
	return conn, p, nil
}

// read fills in the user at the other end of a socket, as of its connect(2).
func (p *peerUser) read(fd int) error {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return err
	}
	p.uid, p.gid, p.pid = cred.Uid, cred.Gid, cred.Pid
	p.groups, err = peerGroups(fd)
	return err
}

// maxGroups is the most groups that a process can have (NGROUPS_MAX).
const maxGroups = 65536

// peerGroups returns the supplementary groups of the other end (socket(7) does not
// name SO_PEERGROUPS; Linux 4.13).
func peerGroups(fd int) ([]uint32, error) {
	for room := 64; room <= maxGroups; room *= 4 {
		list := make([]uint32, room)
		size := uint32(room * 4) //nolint:gosec // at most 256 KiB
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // no wrapper has it
		switch errno {
		case 0:
			return list[:size/4], nil
		case unix.ERANGE: // more than there is room for
		case unix.ENODATA, unix.ENOPROTOOPT: // none, or an older kernel
			return nil, nil
		default:
			return nil, errno
		}
	}
	return nil, fmt.Errorf("more than %d groups", maxGroups)
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
