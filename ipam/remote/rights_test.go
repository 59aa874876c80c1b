package remote

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"onlink/internal/identity"
	"onlink/internal/pki"
	"onlink/internal/tlsfiles"
	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// TestRightsComplete: every method of the registry's port has a row, and no other.
func TestRightsComplete(t *testing.T) {
	want := map[string]bool{}
	for _, d := range []grpc.ServiceDesc{onlinkv1.Registry_ServiceDesc, healthv1.Health_ServiceDesc} {
		for _, m := range d.Methods {
			want["/"+d.ServiceName+"/"+m.MethodName] = true
		}
		for _, m := range d.Streams {
			want["/"+d.ServiceName+"/"+m.StreamName] = true
		}
	}
	for m := range want {
		if len(rights[m]) == 0 {
			t.Errorf("%s has no row in rights: which role may call it?", m)
		}
	}
	for m := range rights {
		if !want[m] {
			t.Errorf("%s has a row in rights and is no method", m)
		}
	}
}

// secured is a registry with TLS and its authority.
type secured struct {
	ca     *pki.Authority
	addr   string
	caFile string

	mu     sync.Mutex
	denied []string
}

// newSecured serves the registry of a new database; roles are of certificates
// without a role.
func newSecured(t *testing.T, roles func(*secured) identity.Map) *secured {
	t.Helper()
	s := &secured{caFile: filepath.Join(t.TempDir(), "ca.crt")}
	var err error
	if s.ca, err = pki.NewAuthority("test", time.Now(), time.Now().Add(2*time.Hour), pki.P256); err != nil {
		t.Fatal(err)
	}
	if err := s.ca.Write(s.caFile, filepath.Join(t.TempDir(), "ca.key")); err != nil {
		t.Fatal(err)
	}
	store, err := ipam.OpenStore(filepath.Join(t.TempDir(), "onlink.db"), ipam.StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	files := s.files(t, identity.Identity{Role: identity.Node, Name: "rr1"})
	keeper, err := files.Open()
	if err != nil {
		t.Fatal(err)
	}
	c := ServerConfig{
		Registry: store.BoltRegistry().WithSettle(time.Nanosecond), Audit: noted(store), Log: slog.New(slog.DiscardHandler), TLS: keeper.Server(),
		Denied: func(_ context.Context, method, why string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.denied = append(s.denied, method+": "+why)
		},
	}
	if roles != nil {
		c.Roles = roles(s)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := NewServer(c)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := errors.Join(<-ended, store.Close()); err != nil {
			t.Error(err)
		}
	})
	s.addr = lis.Addr().String()
	return s
}

// files makes a certificate with the identities, and its files.
func (s *secured) files(t *testing.T, ids ...identity.Identity) tlsfiles.Files {
	t.Helper()
	p, err := s.ca.Issue(pki.Request{
		Identities: ids, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, From: time.Now(), Until: time.Now().Add(time.Hour), Algorithm: pki.P256,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.written(t, p)
}

func (s *secured) written(t *testing.T, p pki.Pair) tlsfiles.Files {
	t.Helper()
	dir := t.TempDir()
	f := tlsfiles.Files{Cert: filepath.Join(dir, "crt"), Key: filepath.Join(dir, "key"), CA: s.caFile}
	if err := p.Write(f.Cert, f.Key); err != nil {
		t.Fatal(err)
	}
	return f
}

// plain makes a certificate as OpenSSL does: without a role.
func (s *secured) plain(t *testing.T, name string) (tlsfiles.Files, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, s.ca.Cert, key.Public(), s.ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return s.written(t, pki.Pair{Cert: cert, Key: key}), cert
}

// client returns the registry as the holder of the files sees it.
func (s *secured) client(t *testing.T, f tlsfiles.Files) *Registry {
	t.Helper()
	k, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	reg, err := Open(ClientConfig{Target: s.addr, TLS: k.Client})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := reg.Close(); err != nil {
			t.Error(err)
		}
	})
	// A busy machine may need more than the time of one handshake.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for at := reg.conn.GetState(); at != connectivity.Ready; at = reg.conn.GetState() {
		reg.conn.Connect()
		if !reg.conn.WaitForStateChange(ctx, at) {
			t.Fatalf("no connection: %v", at)
		}
	}
	return reg
}

// claim is a request for a block.
func claim(node string) ipam.ClaimRequest {
	return ipam.ClaimRequest{
		Caller: ipam.Caller{Node: node, Instance: "i-" + node, Address: netip.MustParseAddr("192.0.2.1")},
		Pool:   "p", PoolCIDR: netip.MustParsePrefix("10.0.0.0/16"), BlockSize: 26,
	}
}

// TestRoles: what each certificate of the authority may do at the registry.
func TestRoles(t *testing.T) {
	var mapped tlsfiles.Files
	s := newSecured(t, func(s *secured) identity.Map {
		var cert *x509.Certificate
		mapped, cert = s.plain(t, "old")
		return identity.Map{{Subject: cert.Subject.String(), Identity: identity.Identity{Role: identity.Node, Name: "old"}}}
	})
	node := func(name string) identity.Identity { return identity.Identity{Role: identity.Node, Name: name} }
	operator := identity.Identity{Role: identity.Operator, Name: "alice"}
	stranger, _ := s.plain(t, "a")
	a := s.client(t, s.files(t, node("a")))
	held, err := a.Claim(t.Context(), claim("a"))
	if err != nil {
		t.Fatal(err)
	}
	byA, byB := claim("a").Caller, claim("b").Caller
	of := func(b ipam.Block, node string) ipam.Block { b.Node = node; return b }
	calls := []struct {
		name string
		call func(context.Context, *Registry) error
	}{
		{"claim for a", func(ctx context.Context, r *Registry) error { _, err := r.Claim(ctx, claim("a")); return err }},
		{"assert for a", func(ctx context.Context, r *Registry) error {
			_, err := r.Assert(ctx, byA, []ipam.Block{held})
			return err
		}},
		{"release of a's", func(ctx context.Context, r *Registry) error { return r.Release(ctx, byA, held) }},
		{"take-over of a", func(ctx context.Context, r *Registry) error { _, err := r.TakeOver(ctx, byA, "a", true); return err }},
		{"take-over of a as b", func(ctx context.Context, r *Registry) error { _, err := r.TakeOver(ctx, byB, "a", true); return err }},
		{"release of a's as b", func(ctx context.Context, r *Registry) error { return r.Release(ctx, byB, of(held, "b")) }},
		{"list", func(ctx context.Context, r *Registry) error { _, err := r.List(ctx, ""); return err }},
		{"nodes", func(ctx context.Context, r *Registry) error { _, err := r.Nodes(ctx); return err }},
		{"release by force", func(ctx context.Context, r *Registry) error {
			_, err := r.ForceRelease(ctx, "nobody", false)
			return err
		}},
	}
	for _, c := range []struct {
		name  string
		files tlsfiles.Files
		may   []string // the calls that are answered, whatever the answer is
		text  string   // in every denial
		is    error    // of every denial
	}{
		{"without a role", stranger, nil, `the certificate "CN=a" has no role: it needs the SAN URI onlink://node/a (onlinkctl pki issue --role node --name a)`, nil},
		{"a viewer", s.files(t, identity.Identity{Role: identity.Viewer, Name: "v"}), nil, "onlink://viewer/v may not call Registry.", ipam.ErrNotPermitted},
		{"an operator", s.files(t, operator), []string{"release by force"}, "it needs the role node", ipam.ErrNotPermitted},
		{"node b", s.files(t, node("b")), []string{"release of a's as b", "list", "nodes"}, "onlink://node/b may not ", nil},
		{"node old, by the map", mapped, []string{"list", "nodes"}, "onlink://node/old may not ", nil},
		{"node a", s.files(t, node("a")), []string{"claim for a", "assert for a", "release of a's", "take-over of a", "list", "nodes"}, "onlink://node/a may not ", nil},
		{"a and b", s.files(t, node("a"), node("b")), []string{"claim for a", "assert for a", "release of a's", "take-over of a", "take-over of a as b", "release of a's as b", "list", "nodes"}, "it needs the role operator", ipam.ErrNotPermitted},
	} {
		t.Run(c.name, func(t *testing.T) {
			reg := s.client(t, c.files)
			for _, call := range calls {
				err := call.call(t.Context(), reg)
				denied := err != nil && strings.Contains(err.Error(), c.text)
				if slices.Contains(c.may, call.name) == denied {
					t.Errorf("%s: %v, want it denied: %v", call.name, err, !denied)
				}
				if denied && c.is != nil && !errors.Is(err, c.is) {
					t.Errorf("%s: %v is no %v", call.name, err, c.is)
				}
				// The agent of the certificate must go on to announce its blocks.
				if denied && (c.is != nil || c.text[0] == 't') && errors.Is(err, ipam.ErrRefused) {
					t.Errorf("%s: %v is a rejection of the machine", call.name, err)
				}
			}
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(s.denied, func(d string) bool { return strings.HasPrefix(d, "Registry.Claim: onlink://viewer/v may not call") }) {
		t.Errorf("denials were not noted: %q", s.denied)
	}
}

// TestRegistryUnread: a caller without a role is denied before its message is read.
func TestRegistryUnread(t *testing.T) {
	s := newSecured(t, nil)
	stranger, _ := s.plain(t, "x")
	k, err := stranger.Open()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(credentials.NewTLS(k.Client())))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // a test's client
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, onlinkv1.Registry_Claim_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	// Nothing is sent, and the answer comes.
	if err := stream.RecvMsg(&onlinkv1.ClaimReply{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("%v, want the call denied before its message", err)
	}
	rep, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: "onlink.v1.Registry"})
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("health for a stranger: %v, %v", rep, err)
	}
}

// TestRegistryHealth: a node sees that the registry serves.
func TestRegistryHealth(t *testing.T) {
	s := newSecured(t, nil)
	k, err := s.files(t, identity.Identity{Role: identity.Node, Name: "a"}).Open()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(credentials.NewTLS(k.Client())))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // a test's client
	rep, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: "onlink.v1.Registry"})
	if err != nil || rep.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", rep, err)
	}
}

// TestRenewed: a client shows the certificate of the time of each connection.
func TestRenewed(t *testing.T) {
	s := newSecured(t, nil)
	stranger, _ := s.plain(t, "x")
	node := s.files(t, identity.Identity{Role: identity.Node, Name: "a"})
	open := func(f tlsfiles.Files) *tls.Config {
		k, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		return k.Client()
	}
	first, second := open(stranger), open(node)
	now := first
	creds := renewed{credentials.NewTLS(first), func() *tls.Config { return now }}
	list := func() error {
		conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(creds.Clone()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // a test's client
		_, err = onlinkv1.NewRegistryClient(conn).List(t.Context(), &onlinkv1.ListRequest{})
		return err
	}
	if err := list(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("with the first certificate: %v, want it denied", err)
	}
	now = second
	if err := list(); err != nil {
		t.Errorf("with the second certificate: %v", err)
	}
}
