package bgp

import (
	"math/rand/v2"
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
	one, two, other := event(t, "10.0.0.9", "10.0.0.2", false), event(t, "10.0.0.8", "10.0.0.3", false), event(t, "10.0.0.8", "10.0.0.2", false)
	gone, own := event(t, "10.0.0.9", "10.0.0.2", true), event(t, "", "10.0.0.1", false)
	stale := event(t, "10.0.0.9", "10.0.0.2", false, communityLLGRStale)
	tests := []struct {
		name   string
		events [][]best
		want   []string // "hop peer"
	}{
		{"two hops", [][]best{{two, one}}, []string{"10.0.0.2 10.0.0.9", "10.0.0.3 10.0.0.8"}},
		{"one hop told by two reflectors", [][]best{{one, other}}, []string{"10.0.0.2 10.0.0.8"}},
		{"a second hop joins", [][]best{{one}, {one, two}}, []string{"10.0.0.2 10.0.0.9", "10.0.0.3 10.0.0.8"}},
		{"one of two leaves", [][]best{{one, two}, {two}}, []string{"10.0.0.3 10.0.0.8"}},
		{"all leave", [][]best{{one, two}, {gone}}, nil},
		{"own paths are no set", [][]best{{own}}, nil},
		{"a prefix that becomes ours is withdrawn", [][]best{{one}, {own}}, nil},
		{"withdrawal of the unknown", [][]best{{gone}, {}}, nil},
		{"stale beside fresh is left out", [][]best{{stale, two}}, []string{"10.0.0.3 10.0.0.8"}},
		{"stale alone stays", [][]best{{stale}}, []string{"10.0.0.2 10.0.0.9"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFeed()
			for _, e := range tt.events {
				f.fold(e)
			}
			updates := drained(f)
			var got []string
			if len(updates) != 1 {
				t.Fatalf("got %d updates, want the prefix once", len(updates))
			}
			for _, u := range updates {
				for _, p := range u.Paths {
					got = append(got, p.NextHop.String()+" "+p.Peer.String())
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("set (-want +got):\n%s", diff)
			}
			if again := drained(f); again != nil {
				t.Errorf("second drain: %v, want nothing", again)
			}
		})
	}
	t.Run("prefixes of one event are told apart", func(t *testing.T) {
		b := event(t, "10.0.0.9", "10.0.0.2", false)
		b.prefix = prefix("10.244.1.0/26")
		f := newFeed()
		f.fold([]best{one, two, b})
		if got := drained(f); len(got) != 2 || len(got[0].Paths) != 2 || len(got[1].Paths) != 1 {
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
			NextHop: addr("10.0.0.2"), Peer: addr("10.0.0.9"), EBGP: true,
		}}}}
		equal := cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
		if diff := cmp.Diff(want, drained(f), equal); diff != "" {
			t.Errorf("update (-want +got):\n%s", diff)
		}
	})
}

// TestFeedOrder: whatever the order of the events, a drain names each prefix
// once, with its last set, in prefix order.
func TestFeedOrder(t *testing.T) {
	f := newFeed()
	hop := func(i int) []member {
		return []member{{path: rib.Path{NextHop: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), Peer: addr("10.0.0.9")}}}
	}
	const prefixes, events = 50, 4000
	want := map[netip.Prefix]netip.Addr{}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range events {
		p, set := block4(rnd.IntN(prefixes)), hop(rnd.IntN(100))
		f.replace(p, set)
		want[p] = set[0].path.NextHop
	}
	got := drained(f)
	if len(got) != len(want) {
		t.Fatalf("%d updates, want %d", len(got), len(want))
	}
	for i, u := range got {
		if i > 0 && got[i-1].Prefix.Compare(u.Prefix) >= 0 {
			t.Errorf("%v after %v", u.Prefix, got[i-1].Prefix)
		}
		if len(u.Paths) != 1 || u.Paths[0].NextHop != want[u.Prefix] {
			t.Errorf("%v: %v, want the last set, via %v", u.Prefix, u.Paths, want[u.Prefix])
		}
	}
}

// TestFeedBounded: routes that flap while the consumer is busy do not make the
// queue grow beyond what it has to tell.
func TestFeedBounded(t *testing.T) {
	f := newFeed()
	const prefixes = 40_000
	set := []member{{path: rib.Path{NextHop: addr("10.0.0.2"), Peer: addr("10.0.0.9")}}}
	longest := 0
	for i := range 10 * prefixes {
		f.replace(block4(i*7919%prefixes), set[:i/7%2])
		longest = max(longest, f.count)
	}
	if limit := feedLimit + 2*prefixes; longest > limit {
		t.Errorf("the queue had %d entries for %d prefixes, want at most %d", longest, prefixes, limit)
	}
	if got := len(drained(f)); got != prefixes {
		t.Errorf("%d updates, want %d", got, prefixes)
	}
}

// block4 is the i-th of many IPv4 prefixes.
func block4(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 10), byte(i >> 2), byte(i << 6)}), 26)
}

func drained(f *feed) (out []rib.Update) {
	f.drain(func(u rib.Update) { out = append(out, u) })
	return out
}
