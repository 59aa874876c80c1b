package bgp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"onlink/rib"
)

// event makes one path of a best-path event, as the engine tells it.
func event(t *testing.T, peer, hop string, withdraw bool, communities ...uint32) best {
	t.Helper()
	nlri := nlriOf(prefix("10.244.0.0/26"))
	attrs := []bgp.PathAttributeInterface{bgp.NewPathAttributeNextHop(hop)}
	if len(communities) > 0 {
		attrs = append(attrs, bgp.NewPathAttributeCommunities(communities))
	}
	p, err := apiutil.NewPath(nlri, withdraw, attrs, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p.SourceAsn, p.NeighborIp = 64512, peer
	if peer == "" {
		p.NeighborIp = "<nil>" // how the engine prints the neighbour of our own paths
	}
	b, err := bestOf(p, 64512)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFeedFolds: every event replaces the set of its prefix.
func TestFeedFolds(t *testing.T) {
	const quiet = "quiet" // no update at all
	one, two, other := event(t, "10.0.0.9", "10.0.0.2", false), event(t, "10.0.0.8", "10.0.0.3", false), event(t, "10.0.0.8", "10.0.0.2", false)
	gone, own := event(t, "10.0.0.9", "10.0.0.2", true), event(t, "", "10.0.0.1", false)
	stale := event(t, "10.0.0.9", "10.0.0.2", false, communityLLGRStale)
	tests := []struct {
		name   string
		events [][]best
		want   []string // "hop peer", or quiet
	}{
		{"two hops", [][]best{{two, one}}, []string{"10.0.0.2 10.0.0.9", "10.0.0.3 10.0.0.8"}},
		{"one hop told by two reflectors", [][]best{{one, other}}, []string{"10.0.0.2 10.0.0.8"}},
		{"a second hop joins", [][]best{{one}, {one, two}}, []string{"10.0.0.2 10.0.0.9", "10.0.0.3 10.0.0.8"}},
		{"one of two leaves", [][]best{{one, two}, {two}}, []string{"10.0.0.3 10.0.0.8"}},
		{"all leave", [][]best{{one, two}, {gone}}, nil},
		{"own paths are no news", [][]best{{own}}, []string{quiet}},
		{"a prefix that becomes ours is withdrawn", [][]best{{one}, {own}}, nil},
		{"withdrawal of the unknown is no news", [][]best{{gone}, {}}, []string{quiet}},
		{"stale beside fresh is left out", [][]best{{stale, two}}, []string{"10.0.0.3 10.0.0.8"}},
		{"stale alone stays", [][]best{{stale}}, []string{"10.0.0.2 10.0.0.9"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFeed()
			for _, e := range tt.events {
				f.fold(e)
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
	t.Run("prefixes of one event are told apart", func(t *testing.T) {
		b := event(t, "10.0.0.9", "10.0.0.2", false)
		b.prefix, b.member.path.Prefix = prefix("10.244.1.0/26"), prefix("10.244.1.0/26")
		f := newFeed()
		f.fold([]best{one, two, b})
		if got := f.drain(); len(got) != 2 || len(got[0].Paths) != 2 || len(got[1].Paths) != 1 {
			t.Errorf("got %+v, want two paths of the first prefix and one of the second", got)
		}
	})
	t.Run("a frozen feed is deaf", func(t *testing.T) {
		f := newFeed()
		b := event(t, "10.0.0.9", "10.0.0.2", false)
		b.member.path.EBGP = true
		f.fold([]best{b})
		select {
		case <-f.changed:
		default:
			t.Error("no signal")
		}
		f.freeze()
		f.fold([]best{gone})
		want := []rib.Update{{Prefix: prefix("10.244.0.0/26"), Paths: []rib.Path{{
			Prefix: prefix("10.244.0.0/26"), NextHop: addr("10.0.0.2"), Peer: addr("10.0.0.9"), EBGP: true,
		}}}}
		equal := cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
		if diff := cmp.Diff(want, f.drain(), equal); diff != "" {
			t.Errorf("update (-want +got):\n%s", diff)
		}
	})
}
