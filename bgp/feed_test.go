package bgp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"onlink/rib"
)

// event makes one path of a best-path event.
func event(t *testing.T, peer, hop string, withdraw bool, communities ...uint32) *apiutil.Path {
	t.Helper()
	nlri, err := bgp.NewIPAddrPrefix(prefix("10.244.0.0/26"))
	if err != nil {
		t.Fatal(err)
	}
	nh, err := bgp.NewPathAttributeNextHop(addr(hop))
	if err != nil {
		t.Fatal(err)
	}
	p := &apiutil.Path{Family: bgp.RF_IPv4_UC, Nlri: nlri, Withdrawal: withdraw, PeerASN: 64512, Attrs: []bgp.PathAttributeInterface{nh}}
	if peer != "" {
		p.PeerAddress = addr(peer)
	}
	if len(communities) > 0 {
		p.Attrs = append(p.Attrs, bgp.NewPathAttributeCommunities(communities))
	}
	return p
}

// TestFeedFolds: deltas become full sets.
func TestFeedFolds(t *testing.T) {
	const quiet = "quiet" // no update at all
	tests := []struct {
		name   string
		events func(t *testing.T) []*apiutil.Path
		want   []string // "hop peer", or quiet
	}{
		{"two hops", func(t *testing.T) []*apiutil.Path {
			return []*apiutil.Path{event(t, "10.0.0.2", "10.0.0.2", false), event(t, "10.0.0.1", "10.0.0.1", false)}
		}, []string{"10.0.0.1 10.0.0.1", "10.0.0.2 10.0.0.2"}},
		{"one hop told by two reflectors", func(t *testing.T) []*apiutil.Path {
			return []*apiutil.Path{event(t, "10.0.0.9", "10.0.0.2", false), event(t, "10.0.0.8", "10.0.0.2", false)}
		}, []string{"10.0.0.2 10.0.0.8"}},
		{"a changed hop replaces", func(t *testing.T) []*apiutil.Path {
			return []*apiutil.Path{event(t, "10.0.0.9", "10.0.0.2", false), event(t, "10.0.0.9", "10.0.0.3", false)}
		}, []string{"10.0.0.3 10.0.0.9"}},
		{"one of two leaves", func(t *testing.T) []*apiutil.Path {
			return []*apiutil.Path{
				event(t, "10.0.0.9", "10.0.0.2", false), event(t, "10.0.0.8", "10.0.0.3", false), event(t, "10.0.0.9", "10.0.0.2", true),
			}
		}, []string{"10.0.0.3 10.0.0.8"}},
		{"all leave", func(t *testing.T) []*apiutil.Path {
			return []*apiutil.Path{event(t, "10.0.0.9", "10.0.0.2", false), event(t, "10.0.0.9", "10.0.0.2", true)}
		}, nil},
		{"own paths are no news", func(t *testing.T) []*apiutil.Path {
			return []*apiutil.Path{event(t, "", "10.0.0.1", false)}
		}, []string{quiet}},
		{"withdrawal of the unknown is no news", func(t *testing.T) []*apiutil.Path {
			return []*apiutil.Path{event(t, "10.0.0.9", "10.0.0.2", true), nil}
		}, []string{quiet}},
		{"stale beside fresh is left out", func(t *testing.T) []*apiutil.Path {
			return []*apiutil.Path{event(t, "10.0.0.9", "10.0.0.2", false, communityLLGRStale), event(t, "10.0.0.8", "10.0.0.3", false)}
		}, []string{"10.0.0.3 10.0.0.8"}},
		{"stale alone stays", func(t *testing.T) []*apiutil.Path {
			return []*apiutil.Path{event(t, "10.0.0.9", "10.0.0.2", false, communityLLGRStale)}
		}, []string{"10.0.0.2 10.0.0.9"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFeed(64512)
			for _, p := range tt.events(t) {
				f.fold([]*apiutil.Path{p}, time.Time{})
			}
			updates := f.drain()
			var got []string
			if len(updates) == 0 {
				got = []string{quiet}
			}
			for _, u := range updates {
				for _, p := range u.Paths {
					got = append(got, p.NextHop.String()+" "+p.Peer.String())
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("set (-want +got):\n%s", diff)
			}
			if again := f.drain(); again != nil {
				t.Errorf("second drain: %v, want nothing", again)
			}
		})
	}
	t.Run("eBGP is told apart, and a frozen feed is deaf", func(t *testing.T) {
		f := newFeed(65001)
		f.fold([]*apiutil.Path{event(t, "10.0.0.9", "10.0.0.2", false)}, time.Time{})
		select {
		case <-f.changed:
		default:
			t.Error("no signal")
		}
		f.freeze()
		f.fold([]*apiutil.Path{event(t, "10.0.0.9", "10.0.0.2", true)}, time.Time{})
		want := []rib.Update{{Prefix: prefix("10.244.0.0/26"), Paths: []rib.Path{{
			Prefix: prefix("10.244.0.0/26"), NextHop: addr("10.0.0.2"), Peer: addr("10.0.0.9"), EBGP: true,
		}}}}
		equal := cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
		if diff := cmp.Diff(want, f.drain(), equal); diff != "" {
			t.Errorf("update (-want +got):\n%s", diff)
		}
	})
}
