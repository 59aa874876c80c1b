package admin

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"onlink/cni"
	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// web is a pod with an address.
func web() ipam.Assignment {
	return ipam.Assignment{
		Handle: ipam.Handle{ContainerID: "c1", IfName: "eth0"}, Namespace: "default", Pod: "web",
		Addresses: []netip.Addr{ip("10.244.1.5"), ip("fd44::5")},
	}
}

// TestShowIPAM: every address of a pod is one line with its block; an address
// selects the line and the block that have it.
func TestShowIPAM(t *testing.T) {
	b := &bed{pods: []ipam.Assignment{web()}, blocks: []ipam.BlockUsage{{Block: ipam.Block{CIDR: pfx("10.244.1.0/26")}}, {Block: ipam.Block{CIDR: pfx("10.244.2.0/26")}}}}
	s := b.server(t)
	rep, err := s.ShowIPAM(t.Context(), &onlinkv1.ShowIPAMRequest{})
	if err != nil || len(rep.GetAssignments()) != 2 || len(rep.GetBlocks()) != 2 {
		t.Fatalf("%v, %v", rep, err)
	}
	if w := rep.GetAssignments(); w[0].GetBlock() != "10.244.1.0/26" || w[1].GetBlock() != "" || w[1].GetAddress() != "fd44::5" {
		t.Errorf("%v", w)
	}
	rep, err = s.ShowIPAM(t.Context(), &onlinkv1.ShowIPAMRequest{Address: "10.244.1.5"})
	if err != nil || len(rep.GetAssignments()) != 1 || len(rep.GetBlocks()) != 1 || rep.GetAssignments()[0].GetPod() != "web" {
		t.Errorf("%v, %v", rep, err)
	}
	_, err = s.ShowIPAM(t.Context(), &onlinkv1.ShowIPAMRequest{Address: "web"})
	wantCode(t, err, codes.InvalidArgument)
}

// TestCheckIPAM: a repair comes before the check, and says what it freed.
func TestCheckIPAM(t *testing.T) {
	b := &bed{
		pods: []ipam.Assignment{web()}, swept: []cni.Attachment{{ContainerID: "c1", IfName: "eth0", Namespace: "default", Pod: "web"}},
		problems: []string{"pod x: y"}, stats: ipam.Stats{Assignments: 4, Blocks: 2}, standing: errors.New("the name is held"),
	}
	rep, err := b.server(t).CheckIPAM(t.Context(), &onlinkv1.CheckIPAMRequest{})
	if err != nil || len(rep.GetRepaired()) != 0 || len(b.did) != 0 || rep.GetAssignments() != 4 || rep.GetBlocks() != 2 {
		t.Errorf("%v, %v, did %q", rep, err, b.did)
	}
	if diff := cmp.Diff([]string{"identity: the name is held; the addresses of 4 pods are kept until they end", "pod x: y"}, rep.GetProblems()); diff != "" {
		t.Error(diff)
	}
	rep, err = b.server(t).CheckIPAM(t.Context(), &onlinkv1.CheckIPAMRequest{Repair: true})
	if err != nil || len(rep.GetRepaired()) != 1 || !strings.Contains(rep.GetRepaired()[0], "default/web (c1/eth0)") {
		t.Errorf("%v, %v", rep, err)
	}
	b.err = errors.New("disk")
	for _, repair := range []bool{false, true} {
		_, err := b.server(t).CheckIPAM(t.Context(), &onlinkv1.CheckIPAMRequest{Repair: repair})
		wantCode(t, err, codes.Internal)
	}
}

// TestReleaseAddress: a pod that is there is cut off only by force, which is
// audited.
func TestReleaseAddress(t *testing.T) {
	ask := func(b *bed, addr string, force bool) error {
		_, err := b.server(t).ReleaseAddress(t.Context(), &onlinkv1.ReleaseAddressRequest{Address: addr, Force: force})
		return err
	}
	wantCode(t, ask(&bed{}, "web", false), codes.InvalidArgument)
	wantCode(t, ask(&bed{}, "10.244.1.5", false), codes.NotFound)
	wantCode(t, ask(&bed{pods: []ipam.Assignment{web()}}, "10.244.1.5", false), codes.FailedPrecondition)

	gone := &bed{pods: []ipam.Assignment{web()}, swept: []cni.Attachment{{ContainerID: "c1", IfName: "eth0"}}}
	wantCode(t, ask(gone, "10.244.1.5", false), codes.OK)
	if len(gone.audit) != 0 {
		t.Errorf("audit %v of a pod that had ended", gone.audit)
	}
	forced := &bed{pods: []ipam.Assignment{web()}}
	wantCode(t, ask(forced, "10.244.1.5", true), codes.OK)
	if len(forced.audit) != 1 || forced.audit[0].Action != ipam.AuditReleaseAddress || forced.audit[0].Target != "10.244.1.5" || !forced.audit[0].Done {
		t.Errorf("audit %+v", forced.audit)
	}
	unnoted := &bed{pods: []ipam.Assignment{web()}, noteErr: errors.New("disk is full")}
	wantCode(t, ask(unnoted, "10.244.1.5", true), codes.Internal)
	if len(unnoted.did) != 0 || len(unnoted.pods) != 1 {
		t.Errorf("did %q unnoted", unnoted.did)
	}
}

// TestForce: blocks are taken from a node only with an entry in the audit, and
// each refusal has a code of its own.
func TestForce(t *testing.T) {
	blocks := []ipam.Block{{CIDR: pfx("10.244.2.0/26"), Node: "n2", Pool: "main"}}
	release := func(s *Server, node string) (*onlinkv1.ReleaseNodeReply, error) {
		return s.ReleaseNode(t.Context(), &onlinkv1.ReleaseNodeRequest{Node: node})
	}
	force := func(s *Server, node string) (*onlinkv1.ReleaseNodeReply, error) {
		rep, err := s.ReleaseNode(t.Context(), &onlinkv1.ReleaseNodeRequest{Node: node, Force: true})
		if b, ok := s.Registry.(registry); err == nil && (!ok || !slices.Contains(b.b.did, "force "+node)) {
			t.Error("the registry was not asked by force")
		}
		return rep, err
	}
	take := func(s *Server, node string) (*onlinkv1.ReleaseNodeReply, error) {
		return s.TakeOverNode(t.Context(), &onlinkv1.TakeOverNodeRequest{Node: node})
	}
	for _, c := range []struct {
		name string
		call func(*Server, string) (*onlinkv1.ReleaseNodeReply, error)
		node string
		err  error
		want codes.Code
	}{
		{"release", release, "n2", nil, codes.OK},
		{"release a live node", release, "n2", ipam.ErrRefused, codes.FailedPrecondition},
		{"release a live node by force", force, "n2", nil, codes.OK},
		{"release this node", release, "n1", nil, codes.InvalidArgument},
		{"release a bad name", release, "n2", ipam.ErrInvalidRequest, codes.InvalidArgument},
		{"release without a registry", release, "n2", errors.New("away"), codes.Unavailable},
		{"take over", take, "n2", nil, codes.OK},
		{"take over a bad name", take, "n2", ipam.ErrInvalidRequest, codes.InvalidArgument},
		{"take over a live node", take, "n2", ipam.ErrRefused, codes.FailedPrecondition},
		{"take over without a registry", take, "n2", errors.New("away"), codes.Unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &bed{registered: blocks, err: c.err}
			rep, err := c.call(b.server(t), c.node)
			wantCode(t, err, c.want)
			if c.want == codes.OK && (len(rep.GetBlocks()) != 1 || rep.GetBlocks()[0].GetCidr() != "10.244.2.0/26") {
				t.Errorf("%v", rep)
			}
			if noted := len(b.audit) == 1 && b.audit[0].Done && (b.audit[0].Failed == "") == (c.err == nil); noted == (c.node == "n1") {
				t.Errorf("audit %+v", b.audit)
			}
		})
	}
	s := (&bed{}).server(t)
	s.Registry = struct{ ipam.Registry }{} // of a kind that cannot
	_, err := release(s, "n2")
	wantCode(t, err, codes.Unimplemented)
}

// TestAuditIPAM: entries go over the wire with what was taken.
func TestAuditIPAM(t *testing.T) {
	b := &bed{audit: []ipam.AuditEntry{{Action: "take-over", Target: "n2", By: "root", Done: true, Blocks: []netip.Prefix{pfx("10.244.2.0/26")}}}}
	rep, err := b.server(t).AuditIPAM(t.Context(), nil)
	if err != nil || len(rep.GetEntries()) != 1 {
		t.Fatalf("%v, %v", rep, err)
	}
	if e := rep.GetEntries()[0]; e.GetAction() != "take-over" || e.GetBy() != "root" || !e.GetDone() || e.GetBlocks()[0] != "10.244.2.0/26" {
		t.Errorf("%v", e)
	}
	b.err = errors.New("disk")
	_, err = b.server(t).AuditIPAM(t.Context(), nil)
	wantCode(t, err, codes.Internal)
}

// stream takes the chunks of a backup.
type stream struct {
	onlinkv1.Admin_BackupIPAMServer

	sizes []int
	full  int // after so many chunks the client is gone
}

// Send implements onlinkv1.Admin_BackupIPAMServer.
func (s *stream) Send(c *onlinkv1.BackupIPAMChunk) error {
	if s.full > 0 && len(s.sizes) == s.full {
		return errors.New("the client is gone")
	}
	s.sizes = append(s.sizes, len(c.GetData()))
	return nil
}

// TestBackup: a database of any size goes in messages that gRPC carries.
func TestBackup(t *testing.T) {
	var out stream
	if err := (&bed{backup: 2*backupChunk + 5}).server(t).BackupIPAM(nil, &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{backupChunk, backupChunk, 5}, out.sizes); diff != "" {
		t.Error(diff)
	}
	err := (&bed{backup: 2 * backupChunk}).server(t).BackupIPAM(nil, &stream{full: 1})
	wantCode(t, err, codes.Internal)
}

// TestCaller: the audit names the user or certificate, and says where nobody
// proved who it is.
func TestCaller(t *testing.T) {
	addr := &net.TCPAddr{IP: net.IPv4(10, 57, 0, 9), Port: 7}
	for _, c := range []struct {
		name string
		auth credentials.AuthInfo
		want string
	}{
		{"root at the socket", peerUser{uid: 0, pid: 1 << 30}, "root (uid 0, pid 1073741824)"},
		{"a user without a name", peerUser{uid: 4_000_000_000, pid: 1 << 30}, "unknown (uid 4000000000, pid 1073741824)"},
		{"TLS without a certificate", credentials.TLSInfo{}, "10.57.0.9:7 (not authenticated)"},
		{"plain", nil, "10.57.0.9:7 (not authenticated)"},
	} {
		ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: addr, AuthInfo: c.auth})
		if got := caller(ctx); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := caller(context.Background()); got != "unknown" {
		t.Errorf("not over the wire: %q", got)
	}
}
