package admin

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"

	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"

	"onlink/internal/identity"
)

// visitor is the client of a call.
type visitor struct {
	name string // for the audit, the log and errors
	key  string // the same for all calls of one user or certificate
	ids  []identity.Identity
	// without says how to get an identity; set where there is none.
	without string
	// root is never kept out by the calls of others.
	root bool
}

// visitorKey is the key of the visitor in the context of a call.
type visitorKey struct{}

// who returns the client of a call on this door.
func (d *Door) who(ctx context.Context) *visitor {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return &visitor{name: "unknown", without: notAuthenticated}
	}
	switch info := p.AuthInfo.(type) {
	case peerUser:
		return d.user(info)
	case credentials.TLSInfo:
		return d.holder(info, p.Addr)
	}
	return stranger(p.Addr)
}

// stranger is a caller that proves nothing.
func stranger(from net.Addr) *visitor {
	return &visitor{name: fmt.Sprintf("%s (not authenticated)", from), key: from.String(), without: notAuthenticated}
}

const notAuthenticated = "it is not authenticated"

// user is the caller at the other end of a unix socket.
func (d *Door) user(u peerUser) *visitor {
	c := &visitor{name: u.String(), key: "uid " + strconv.FormatUint(uint64(u.uid), 10), root: u.uid == 0}
	role := identity.Operator
	switch {
	case c.root, int(u.uid) == os.Geteuid():
	case d.Viewers == nil:
		// The mode of the socket has admitted root and its group alone.
	case u.in(d.Operators):
	case u.in(d.Viewers):
		role = identity.Viewer
	default:
		c.without = "join the group of api.admin.group (operators) or api.admin.viewers"
		return c
	}
	c.ids = []identity.Identity{{Role: role, Name: c.key}}
	return c
}

// holder is the caller with a certificate.
func (d *Door) holder(info credentials.TLSInfo, from net.Addr) *visitor {
	certs := info.State.PeerCertificates
	if len(certs) == 0 || len(info.State.VerifiedChains) == 0 {
		return stranger(from)
	}
	cert := certs[0]
	ids, err := d.Roles.Of(cert)
	if len(ids) > 0 {
		return &visitor{name: fmt.Sprintf("%s (certificate, from %s)", identity.Join(ids), from), key: identity.Join(ids), ids: ids}
	}
	c := &visitor{
		name: fmt.Sprintf("%s (certificate, from %s)", cert.Subject, from), key: identity.Fingerprint(cert),
		without: "the certificate has no role: make one with the SAN URI onlink://ROLE/NAME (onlinkctl pki issue --role viewer --name NAME), or name it in api.admin.tls.roles",
	}
	if err != nil {
		c.without = "the certificate has no role: " + err.Error()
	}
	return c
}

// visitorOf returns the client of a call that a door has admitted, or of one of
// another server, such as the registry's.
func visitorOf(ctx context.Context) *visitor {
	if v, ok := ctx.Value(visitorKey{}).(*visitor); ok {
		return v
	}
	return new(Door).who(ctx)
}

// caller names the client of a request: the user at a unix socket, the identities or
// the subject of a certificate, or the address of an unauthenticated client.
func caller(ctx context.Context) string { return visitorOf(ctx).name }
