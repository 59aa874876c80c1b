package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"onlink/ipam"
	"onlink/ipam/remote"
	onlinkv1 "onlink/proto/v1"
)

// recorder is an agent as its node process sees it: it serves the admin API that the
// process calls, accepts everything, and notes what it gets. It has no BGP and writes
// no route.
type recorder struct {
	onlinkv1.UnimplementedAdminServer

	name    string
	changed chan struct{} // has room for one: the status differs

	mu        sync.Mutex // guards all below
	status    *onlinkv1.Status
	text      string
	configs   int // changes of the configuration that were made
	dryRuns   int
	sets      int // announcements that replaced others
	announced map[netip.Prefix]time.Time
	request   *onlinkv1.AnnounceRequest
}

// newRecorder serves an agent at dir/admin.sock until the test ends.
func newRecorder(t *testing.T, dir, name string) *recorder {
	t.Helper()
	r := &recorder{
		name: name, changed: make(chan struct{}, 1), announced: map[netip.Prefix]time.Time{}, request: &onlinkv1.AnnounceRequest{Owner: "services"},
		status: &onlinkv1.Status{
			Node: name, Version: "test", Phase: "ready", InSync: true, Started: timestamppb.Now(), Drain: "serving", Asn: 64512,
			PeersTotal: 3, PeersEstablished: 3, Blocks: 1, AddressesTotal: 64, Registry: "grpc",
		},
	}
	lis, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(dir, "admin.sock"))
	must(t, err)
	s := grpc.NewServer()
	onlinkv1.RegisterAdminServer(s, r)
	done := make(chan error, 1)
	go func() { done <- s.Serve(lis) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Errorf("serve admin API of %s: %v", name, err)
		}
	})
	return r
}

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// edit changes the status, and wakes the stream of it.
func (r *recorder) edit(f func(*onlinkv1.Status)) {
	r.mu.Lock()
	next := proto.CloneOf(r.status)
	f(next)
	r.status = next
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *recorder) now() *onlinkv1.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// GetStatus implements onlinkv1.AdminServer.
func (r *recorder) GetStatus(context.Context, *onlinkv1.GetStatusRequest) (*onlinkv1.Status, error) {
	return r.now(), nil
}

// WatchStatus implements onlinkv1.AdminServer.
func (r *recorder) WatchStatus(_ *onlinkv1.WatchStatusRequest, out grpc.ServerStreamingServer[onlinkv1.Status]) error {
	for {
		if err := out.Send(r.now()); err != nil {
			return err
		}
		select {
		case <-out.Context().Done():
			return nil
		case <-r.changed:
		}
	}
}

// GetConfig implements onlinkv1.AdminServer.
func (r *recorder) GetConfig(context.Context, *onlinkv1.GetConfigRequest) (*onlinkv1.GetConfigReply, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &onlinkv1.GetConfigReply{Text: r.text, Digest: digestOf(r.text)}, nil
}

// ChangeConfig implements onlinkv1.AdminServer.
func (r *recorder) ChangeConfig(_ context.Context, q *onlinkv1.ChangeConfigRequest) (*onlinkv1.ChangeConfigReply, error) {
	digest := digestOf(q.GetText())
	r.mu.Lock()
	if q.GetDryRun() {
		r.dryRuns++
		r.mu.Unlock()
		return &onlinkv1.ChangeConfigReply{Digest: digest}, nil
	}
	changed := r.text != q.GetText()
	r.text = q.GetText()
	r.configs++
	r.mu.Unlock()
	r.edit(func(s *onlinkv1.Status) { s.ConfigDigest = digest })
	return &onlinkv1.ChangeConfigReply{Digest: digest, Changed: changed}, nil
}

// Announce implements onlinkv1.AdminServer.
func (r *recorder) Announce(_ context.Context, q *onlinkv1.AnnounceRequest) (*onlinkv1.AnnounceReply, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sets++
	r.request = q
	next := map[netip.Prefix]time.Time{}
	for _, a := range q.GetAnnouncements() {
		p, err := netip.ParsePrefix(a.GetPrefix())
		if err != nil {
			return nil, err
		}
		since, ok := r.announced[p]
		if !ok {
			since = time.Now()
		}
		next[p] = since
	}
	r.announced = next
	return &onlinkv1.AnnounceReply{Announced: uint32(len(next))}, nil //nolint:gosec // a count
}

// since returns when a prefix was announced.
func (r *recorder) since(p netip.Prefix) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.announced[p]
	return at, ok
}

// ListAnnouncements implements onlinkv1.AdminServer.
func (r *recorder) ListAnnouncements(context.Context, *onlinkv1.ListAnnouncementsRequest) (*onlinkv1.ListAnnouncementsReply, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &onlinkv1.ListAnnouncementsReply{Sets: []*onlinkv1.AnnouncementSet{{Owner: r.request.GetOwner(), Announcements: r.request.GetAnnouncements()}}}, nil
}

// SetNamespaces implements onlinkv1.AdminServer.
func (r *recorder) SetNamespaces(context.Context, *onlinkv1.SetNamespacesRequest) (*onlinkv1.SetNamespacesReply, error) {
	return &onlinkv1.SetNamespacesReply{}, nil
}

// ListPeers implements onlinkv1.AdminServer.
func (r *recorder) ListPeers(context.Context, *onlinkv1.ListPeersRequest) (*onlinkv1.ListPeersReply, error) {
	return &onlinkv1.ListPeersReply{}, nil
}

// ListBlocks implements onlinkv1.AdminServer.
func (r *recorder) ListBlocks(context.Context, *onlinkv1.ListBlocksRequest) (*onlinkv1.ListBlocksReply, error) {
	return &onlinkv1.ListBlocksReply{}, nil
}

// ListPools implements onlinkv1.AdminServer.
func (r *recorder) ListPools(context.Context, *onlinkv1.ListPoolsRequest) (*onlinkv1.ListPoolsReply, error) {
	return &onlinkv1.ListPoolsReply{Pools: []*onlinkv1.Pool{{Name: "pods"}}}, nil
}

// counts returns how often the process changed the configuration and the
// announcements.
func (r *recorder) counts() (configs, sets int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.configs, r.sets
}

// hold does what the agent's allocator does with the registry of its node process: it
// claims a block and asserts it once a minute, over the Unix socket.
func (r *recorder) hold(ctx context.Context, socket string, addr netip.Addr, failed func(error)) {
	reg, err := remote.Open(remote.ClientConfig{Target: "unix://" + socket})
	if err != nil {
		failed(err)
		return
	}
	defer func() { _ = reg.Close() }() // no call is in flight
	by := ipam.Caller{Node: r.name, Instance: r.name, Address: addr, Period: ipam.DefaultAssertInterval}
	var held []ipam.Block
	for {
		if len(held) == 0 {
			b, err := reg.Claim(ctx, ipam.ClaimRequest{Caller: by, Pool: "pods", PoolCIDR: scalePool, BlockSize: 26})
			if err == nil {
				held = append(held, b)
			}
		}
		wait := time.Second // an API server that starts many nodes
		if len(held) > 0 {
			wait = by.Period
			lost, err := reg.Assert(ctx, by, held)
			switch {
			case err != nil:
				wait = 5 * time.Second
			case len(lost) > 0:
				failed(fmt.Errorf("%s lost %v", r.name, lost))
				return
			}
		}
		if !pauseFor(ctx, wait) {
			return
		}
	}
}
