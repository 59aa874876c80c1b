package remote

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"onlink/internal/identity"
	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

var (
	nodes     = []identity.Role{identity.Node}
	operators = []identity.Role{identity.Operator}
)

// rights has the roles that may call each method of a registry with TLS: one without
// a row is denied to all. A node acts for its own name alone, see [guard.bind]; an
// operator takes the blocks of a dead node, and no more.
var rights = map[string][]identity.Role{
	onlinkv1.Registry_Claim_FullMethodName:        nodes,
	onlinkv1.Registry_Release_FullMethodName:      nodes,
	onlinkv1.Registry_Assert_FullMethodName:       nodes,
	onlinkv1.Registry_TakeOver_FullMethodName:     nodes,
	onlinkv1.Registry_List_FullMethodName:         nodes,
	onlinkv1.Registry_Nodes_FullMethodName:        nodes,
	onlinkv1.Registry_ForceRelease_FullMethodName: operators,

	healthv1.Health_Check_FullMethodName: identity.Roles(),
	healthv1.Health_List_FullMethodName:  identity.Roles(),
	healthv1.Health_Watch_FullMethodName: identity.Roles(),
}

// reasonRole is the reason of an ErrorInfo: the caller's certificate lacks a role. It
// tells this from the rejection of a machine, which must stop announcing its blocks.
const (
	reasonRole   = "ROLE_NEEDED"
	reasonDomain = "onlink.io"
)

// holder is who a certificate makes the caller.
type holder struct {
	cert *x509.Certificate // nil: plain text, or not over the network
	ids  []identity.Identity
	err  error // why the certificate's identities cannot be read
}

// holder returns the caller of a call.
func (g *guard) holder(ctx context.Context) holder {
	cert := certificateOf(ctx)
	if cert == nil {
		return holder{}
	}
	ids, err := g.roles.Of(cert)
	return holder{cert, ids, err}
}

// intercept is a [grpc.StreamServerInterceptor] that admits calls, before their
// messages are read.
func (g *guard) intercept(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := g.admit(sourceOfCall(s.Context()), time.Now()); err != nil {
		return err
	}
	if err := g.permit(s.Context(), info.FullMethod); err != nil {
		return err
	}
	return next(srv, s)
}

// permit reports whether a caller's certificate permits a method. A registry without
// TLS permits all.
func (g *guard) permit(ctx context.Context, method string) error {
	if !g.tls {
		return nil
	}
	h := g.holder(ctx)
	switch need := rights[method]; {
	case h.cert == nil:
		return status.Error(codes.Unauthenticated, "the caller shows no certificate")
	case len(h.ids) == 0:
		// Not PERMISSION_DENIED: agents take that for the loss of their name, and a
		// node with a certificate of before roles has to keep its blocks.
		return g.denied(ctx, method, status.New(codes.Unauthenticated, h.without()))
	case !identity.Has(h.ids, need...):
		st := status.Newf(codes.PermissionDenied, "%s may not call %s: it needs the role %s", identity.Join(h.ids), shortMethod(method), identity.Either(need))
		if len(need) == 0 {
			st = status.Newf(codes.PermissionDenied, "%s may not call %s: no role permits it", identity.Join(h.ids), shortMethod(method))
		}
		if detailed, err := st.WithDetails(&errdetails.ErrorInfo{Reason: reasonRole, Domain: reasonDomain}); err == nil {
			st = detailed
		}
		return g.denied(ctx, method, st)
	}
	return nil
}

// without says why a certificate has no role, and the way to one.
func (h holder) without() string {
	if h.err != nil {
		return fmt.Sprintf("the certificate %q has no role: %v", h.cert.Subject, h.err)
	}
	name := h.cert.Subject.CommonName
	if name == "" {
		name = "NAME"
	}
	return fmt.Sprintf("the certificate %q has no role: it needs the SAN URI %s (onlinkctl pki issue --role node --name %s), or an entry in ipam.registry.tls.roles of the registry",
		h.cert.Subject, identity.Identity{Role: identity.Node, Name: name}, name)
}

// names reports whether the caller is a node of this name.
func (h holder) names(node string) bool {
	return slices.Contains(h.ids, identity.Identity{Role: identity.Node, Name: node})
}

// denied notes a denied call.
func (g *guard) denied(ctx context.Context, method string, st *status.Status) error {
	if g.onDenied != nil {
		g.onDenied(ctx, shortMethod(method), st.Message())
	}
	return st.Err()
}

// shortMethod writes /onlink.v1.Registry/Claim as Registry.Claim.
func shortMethod(full string) string {
	service, method, _ := strings.Cut(strings.TrimPrefix(full, "/"), "/")
	return service[strings.LastIndexByte(service, '.')+1:] + "." + method
}

// lacksRole reports whether a registry rejected a call for the role of our
// certificate.
func lacksRole(st *status.Status) bool {
	return slices.ContainsFunc(st.Details(), func(d any) bool {
		info, ok := d.(*errdetails.ErrorInfo)
		return ok && info.GetReason() == reasonRole && info.GetDomain() == reasonDomain
	})
}

// certificateOf returns the verified certificate of a caller; nil: none.
func certificateOf(ctx context.Context) *x509.Certificate {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.PeerCertificates) == 0 {
		return nil
	}
	return info.State.PeerCertificates[0]
}

// bind rejects a caller that acts for another node than its own. With TLS its
// certificate must name the node, wherever it calls from; without, it must call from
// the next hop of the node's blocks. from is a node that the caller takes over from;
// "" for none.
func (g *guard) bind(ctx context.Context, method string, by ipam.Caller, from string) error {
	if g == nil {
		return nil
	}
	if g.tls {
		h := g.holder(ctx)
		for _, node := range []string{by.Node, from} {
			if node != "" && !h.names(node) {
				return g.denied(ctx, method, status.Newf(codes.PermissionDenied, "%s may not act for node %q: its certificate needs the SAN URI %s (onlinkctl pki issue --role node --name %s)",
					identity.Join(h.ids), node, identity.Identity{Role: identity.Node, Name: node}, node))
			}
		}
		return nil
	}
	src := sourceOfCall(ctx)
	switch {
	case !src.IsValid(), src == by.Address, src == by.Address6:
		return nil
	case by.Instance == "" && !by.Address.IsValid() && !by.Address6.IsValid():
		return nil // an older version: the registry decides its rights
	case src.IsLoopback():
		return nil // this machine
	}
	return status.Errorf(codes.PermissionDenied,
		"node %q announces its blocks from %s and calls from %v: set node.address to the address it calls from, or use tls with a certificate that names it",
		by.Node, by.Where(), src)
}
