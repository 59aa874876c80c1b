package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"

	"onlink/agent/state"
	"onlink/internal/identity"
	"onlink/internal/pki"
	"onlink/internal/tlsfiles"
	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// services are those that a door can serve.
func services() []grpc.ServiceDesc {
	return []grpc.ServiceDesc{
		onlinkv1.Admin_ServiceDesc, onlinkv1.Runtime_ServiceDesc, onlinkv1.Nodes_ServiceDesc, healthv1.Health_ServiceDesc, reflectionv1.ServerReflection_ServiceDesc, reflectionv1alpha.ServerReflection_ServiceDesc,
	}
}

// methods are those of the services, by their full names.
func methods() (list []string) {
	for _, d := range services() {
		for _, m := range d.Methods {
			list = append(list, "/"+d.ServiceName+"/"+m.MethodName)
		}
		for _, m := range d.Streams {
			list = append(list, "/"+d.ServiceName+"/"+m.StreamName)
		}
	}
	return list
}

// TestRightsComplete: every method of the descriptors has a row, and no other.
func TestRightsComplete(t *testing.T) {
	all := methods()
	for _, m := range all {
		if len(rights[m].roles) == 0 {
			t.Errorf("%s has no row in rights: which role may call it?", m)
		}
	}
	for m := range rights {
		if !slices.Contains(all, m) {
			t.Errorf("%s has a row in rights and is no method", m)
		}
	}
}

// authority issues certificates for a test.
type authority struct {
	ca   *pki.Authority
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(t.TempDir(), "ca.crt")}
	var err error
	if a.ca, err = pki.NewAuthority("test", time.Now(), time.Now().Add(2*time.Hour), pki.P256); err != nil {
		t.Fatal(err)
	}
	if err := a.ca.Write(a.file, filepath.Join(t.TempDir(), "ca.key")); err != nil {
		t.Fatal(err)
	}
	return a
}

// files has a certificate of the identities.
func (a *authority) files(t *testing.T, ids ...identity.Identity) *tlsfiles.Keeper {
	t.Helper()
	p, err := a.ca.Issue(pki.Request{
		Identities: ids, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, From: time.Now(), Until: time.Now().Add(time.Hour), Algorithm: pki.P256,
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := tlsfiles.Files{Cert: filepath.Join(dir, "crt"), Key: filepath.Join(dir, "key"), CA: a.file}
	if err := p.Write(f.Cert, f.Key); err != nil {
		t.Fatal(err)
	}
	k, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// served serves the API of a bed on a listener.
func served(t *testing.T, s *Server, lis net.Listener, d Door) {
	t.Helper()
	srv := s.Open(d)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-ended; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// remote serves the API with TLS; reach returns a connection of the holder of a
// certificate.
func remote(t *testing.T, s *Server, d Door) (reach func(ids ...identity.Identity) *grpc.ClientConn) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t)
	d.TLS = a.files(t, identity.Identity{Role: identity.Node, Name: "n1"}).Server()
	served(t, s, lis, d)
	return func(ids ...identity.Identity) *grpc.ClientConn {
		return dialed(t, lis.Addr().String(), credentials.NewTLS(a.files(t, ids...).Client()))
	}
}

func dialed(t *testing.T, target string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

var (
	viewer   = identity.Identity{Role: identity.Viewer, Name: "bob"}
	operator = identity.Identity{Role: identity.Operator, Name: "alice"}
	node     = identity.Identity{Role: identity.Node, Name: "n2"}
)

// TestRoles calls every method with every kind of certificate, without a message: who
// may not call it learns so at once, and who may is waited for.
func TestRoles(t *testing.T) {
	b := &bed{}
	mapped := identity.Map{{Subject: "CN=mapped", Identity: viewer}}
	reach := remote(t, b.server(t), Door{Reflection: true, Roles: mapped})
	for _, c := range []struct {
		name string
		conn *grpc.ClientConn
		role identity.Role
		text string // of a denial
	}{
		{"viewer", reach(viewer), identity.Viewer, "onlink://viewer/bob (certificate, from 127.0.0.1:"},
		{"operator", reach(operator), identity.Operator, ""},
		{"node", reach(node), identity.Node, "onlink://node/n2 (certificate, from 127.0.0.1:"},
		{"an operator whom the map makes a viewer", reach(identity.Identity{Role: identity.Operator, Name: "mapped"}), identity.Viewer, "onlink://viewer/bob (certificate, from 127.0.0.1:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, m := range methods() {
				stream, err := c.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, m)
				if err == nil {
					err = stream.CloseSend()
				}
				if err == nil {
					err = stream.RecvMsg(&onlinkv1.Status{})
				}
				denied := status.Code(err) == codes.PermissionDenied
				may := slices.Contains(rights[m].roles, c.role)
				if denied == may {
					t.Errorf("%s: %v, want it permitted: %v", m, err, may)
				}
				if denied && (!strings.HasPrefix(status.Convert(err).Message(), c.text) || !strings.Contains(err.Error(), "it needs the role "+identity.Either(rights[m].roles))) {
					t.Errorf("%s: %v does not name the caller and the role", m, err)
				}
			}
		})
	}
}

// TestNoRole: a certificate without a role calls nothing, and the answer says how to
// get one; so it is with one that has a mistake.
func TestNoRole(t *testing.T) {
	b := &bed{snapshot: &state.Snapshot{}}
	s := b.server(t)
	d := &Door{}
	for _, c := range []struct {
		name string
		info credentials.AuthInfo
		want string
	}{
		{"plain text", nil, "it is not authenticated"},
		{"TLS without a certificate", credentials.TLSInfo{}, "it is not authenticated"},
		{"an unknown user", peerUser{uid: 4_000_000_000, gid: 7}, ""},
	} {
		v := d.who(from(t, c.info))
		err := v.may(onlinkv1.Admin_GetStatus_FullMethodName)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v, though the mode of the socket admits it", c.name, err)
			}
			continue
		}
		if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	v := &visitor{name: "x", ids: []identity.Identity{operator}}
	if err := v.may("/onlink.v1.Admin/Unheard"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a method without a row: %v", err)
	}
	if _, err := s.GetStatus(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// TestUnixGroups: root and the group are operators; with viewers the other users have
// what their groups give them.
func TestUnixGroups(t *testing.T) {
	ops, view := uint32(100), uint32(200)
	for _, c := range []struct {
		name string
		d    Door
		u    peerUser
		want identity.Role // "": none
	}{
		{"root", Door{Operators: &ops, Viewers: &view}, peerUser{uid: 0}, identity.Operator},
		{"whoever opens the socket", Door{}, peerUser{uid: 7, gid: 7}, identity.Operator},
		{"primary group", Door{Operators: &ops, Viewers: &view}, peerUser{uid: 7, gid: ops}, identity.Operator},
		{"supplementary group", Door{Operators: &ops, Viewers: &view}, peerUser{uid: 7, gid: 7, groups: []uint32{3, ops}}, identity.Operator},
		{"viewer", Door{Operators: &ops, Viewers: &view}, peerUser{uid: 7, gid: 7, groups: []uint32{view}}, identity.Viewer},
		{"both", Door{Operators: &ops, Viewers: &view}, peerUser{uid: 7, gid: view, groups: []uint32{ops}}, identity.Operator},
		{"viewers alone", Door{Viewers: &view}, peerUser{uid: 7, gid: 7, groups: []uint32{view}}, identity.Viewer},
		{"neither", Door{Operators: &ops, Viewers: &view}, peerUser{uid: 7, gid: 7, groups: []uint32{3}}, ""},
	} {
		v := c.d.who(from(t, c.u))
		switch {
		case c.want == "" && (len(v.ids) > 0 || v.without == ""):
			t.Errorf("%s: %v, %q", c.name, v.ids, v.without)
		case c.want != "" && !identity.Has(v.ids, c.want):
			t.Errorf("%s: %v, want %s", c.name, v.ids, c.want)
		}
	}
}

// TestPeerCredentials: the kernel names this process and its groups.
func TestPeerCredentials(t *testing.T) {
	lis, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{snapshot: &state.Snapshot{Node: state.Node{Name: "n1"}}}
	served(t, b.server(t), lis, Door{})
	conn := dialed(t, "unix:"+lis.Addr().String(), insecure.NewCredentials())
	st, err := onlinkv1.NewAdminClient(conn).GetStatus(t.Context(), &onlinkv1.GetStatusRequest{})
	if err != nil || st.GetNode() != "n1" {
		t.Errorf("%v, %v", st, err)
	}
}

// TestDenialsAudited: denied calls are in the audit with their author and the role
// that they need, a bounded number of them.
func TestDenialsAudited(t *testing.T) {
	b := &bed{}
	s := b.server(t)
	reach := remote(t, s, Door{})
	for range 5 {
		_, err := onlinkv1.NewAdminClient(reach(viewer)).Drain(t.Context(), &onlinkv1.DrainRequest{})
		wantCode(t, err, codes.PermissionDenied)
		_, err = onlinkv1.NewAdminClient(reach(viewer)).CheckIPAM(t.Context(), &onlinkv1.CheckIPAMRequest{Repair: true})
		wantCode(t, err, codes.PermissionDenied)
	}
	if _, err := onlinkv1.NewAdminClient(reach(viewer)).CheckIPAM(t.Context(), &onlinkv1.CheckIPAMRequest{}); err != nil {
		t.Errorf("a check without repair: %v", err)
	}
	if len(b.audit) != 2 {
		t.Fatalf("audit %+v, want one entry a method", b.audit)
	}
	for i, want := range []struct{ target, why string }{
		{"Admin.Drain", "it needs the role operator"}, {"Admin.CheckIPAM", "a request that changes something needs the role operator"},
	} {
		e := b.audit[i]
		if e.Action != ipam.AuditDenied || e.Target != want.target || !strings.HasPrefix(e.By, "onlink://viewer/bob (certificate") || !e.Done || !strings.Contains(e.Failed, want.why) {
			t.Errorf("entry %+v, want %+v", e, want)
		}
	}
	if len(b.did) != 0 {
		t.Errorf("denied calls did %v", b.did)
	}
}

// TestDenialsBounded: a caller is noted once an hour for each method, and many callers
// as often as the bound says; what is left out is counted.
func TestDenialsBounded(t *testing.T) {
	var d denials
	now := time.Now()
	noted := func(key, method string) bool { _, ok := d.admit(key, method, now); return ok }
	if !noted("a", "Drain") || noted("a", "Drain") || !noted("a", "Undrain") || !noted("b", "Drain") {
		t.Error("the first of a caller and method is noted, the next is not")
	}
	n := 0
	for i := range 10 * maxDenials {
		if noted(string(rune('A'+i)), "x") {
			n++
		}
	}
	if n != denialBurst-3 {
		t.Errorf("%d of many callers are noted at once, want %d", n, denialBurst-3)
	}
	now = now.Add(denialEvery)
	missed, ok := d.admit("c", "Drain", now)
	if want := 10*maxDenials - n; !ok || missed != want {
		t.Errorf("a minute later: %v, %d left out before, want %d", ok, missed, want)
	}
	for range 2 * maxDenials {
		now = now.Add(denialEvery)
		noted(now.String(), "x")
	}
	if len(d.noted) > maxDenials {
		t.Errorf("%d callers are remembered", len(d.noted))
	}
	now = now.Add(denialAgain)
	if !noted("a", "Drain") {
		t.Error("an hour later the caller is not noted again")
	}
}

// TestHealth: each service is served, and others are not known; reflection is there on
// request alone.
func TestHealth(t *testing.T) {
	b := &bed{}
	s := b.server(t)
	reach := remote(t, s, Door{})
	health := healthv1.NewHealthClient(reach(viewer))
	for _, name := range []string{"", "onlink.v1.Admin", "grpc.health.v1.Health"} {
		rep, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: name})
		if err != nil || rep.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v, %v", name, rep, err)
		}
	}
	_, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "onlink.v1.Registry"})
	wantCode(t, err, codes.NotFound)
	shows := func(conn *grpc.ClientConn) ([]string, error) {
		stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
		if err != nil {
			return nil, err
		}
		if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil && !errors.Is(err, io.EOF) {
			return nil, err // EOF: Recv has the reason
		}
		rep, err := stream.Recv()
		var names []string
		for _, svc := range rep.GetListServicesResponse().GetService() {
			names = append(names, svc.GetName())
		}
		return names, err
	}
	_, err = shows(reach(operator))
	wantCode(t, err, codes.Unimplemented)
	if names, err := shows(remote(t, s, Door{Reflection: true})(viewer)); err != nil || !slices.Contains(names, "onlink.v1.Admin") {
		t.Errorf("%v, %v", names, err)
	}
}

// TestTLS13: the socket speaks TLS 1.3 alone, and to clients with a certificate.
func TestTLS13(t *testing.T) {
	a := newAuthority(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served(t, (&bed{}).server(t), lis, Door{TLS: a.files(t, node).Server()})
	older := a.files(t, operator).Client()
	older.MinVersion, older.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	without := a.files(t, operator).Client()
	without.Certificates = nil
	for name, c := range map[string]*tls.Config{"TLS 1.2": older, "without a certificate": without} {
		_, err := onlinkv1.NewAdminClient(dialed(t, lis.Addr().String(), credentials.NewTLS(c))).GetStatus(t.Context(), &onlinkv1.GetStatusRequest{})
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v, want no connection", name, err)
		}
	}
}

// from is the context of a call with these credentials.
func from(t *testing.T, info credentials.AuthInfo) context.Context {
	t.Helper()
	return peer.NewContext(t.Context(), &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7}, AuthInfo: info})
}
