package bgp

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"onlink/bgp/gobgp"
	"onlink/rib"
)

// TestFeedFolds: every set from the engine replaces that of its prefix.
func TestFeedFolds(t *testing.T) {
	path := func(peer, hop string, communities ...uint32) gobgp.Path {
		return gobgp.Path{Peer: addr(peer), PeerAS: 64512, NextHop: addr(hop), Communities: communities}
	}
	one, two, other := path("10.0.0.9", "10.0.0.2"), path("10.0.0.8", "10.0.0.3"), path("10.0.0.8", "10.0.0.2")
	own := gobgp.Path{NextHop: addr("10.0.0.1")}
	stale := path("10.0.0.9", "10.0.0.2", communityLLGRStale)
	p := prefix("10.244.0.0/26")
	started := func(t *testing.T) *watch {
		c := testConfig(t, "10.0.0.1")
		return newWatch(&c, newLedger())
	}
	tests := []struct {
		name string
		sets [][]gobgp.Path
		want []string // "hop peer"
	}{
		{"two hops", [][]gobgp.Path{{two, one}}, []string{"10.0.0.2 10.0.0.9", "10.0.0.3 10.0.0.8"}},
		{"one hop told by two reflectors", [][]gobgp.Path{{one, other}}, []string{"10.0.0.2 10.0.0.8"}},
		{"a second hop joins", [][]gobgp.Path{{one}, {one, two}}, []string{"10.0.0.2 10.0.0.9", "10.0.0.3 10.0.0.8"}},
		{"one of two leaves", [][]gobgp.Path{{one, two}, {two}}, []string{"10.0.0.3 10.0.0.8"}},
		{"all leave", [][]gobgp.Path{{one, two}, {}}, nil},
		{"own paths are no set", [][]gobgp.Path{{own}}, nil},
		{"a prefix that becomes ours is withdrawn", [][]gobgp.Path{{one}, {own}}, nil},
		{"withdrawal of the unknown", [][]gobgp.Path{{}}, nil},
		{"stale beside fresh is left out", [][]gobgp.Path{{stale, two}}, []string{"10.0.0.3 10.0.0.8"}},
		{"stale alone stays", [][]gobgp.Path{{stale}}, []string{"10.0.0.2 10.0.0.9"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := started(t)
			for _, set := range tt.sets {
				w.bestSet(p, set)
			}
			updates := drained(w.feed)
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
			if again := drained(w.feed); again != nil {
				t.Errorf("second drain: %v, want nothing", again)
			}
		})
	}
	t.Run("a frozen feed is deaf", func(t *testing.T) {
		w := started(t)
		from := one
		from.PeerAS = 65001
		w.bestSet(p, []gobgp.Path{from})
		w.feed.signal()
		select {
		case <-w.feed.changed:
		default:
			t.Error("no signal")
		}
		w.feed.freeze()
		w.bestSet(p, nil)
		want := []rib.Update{{Prefix: p, Paths: []rib.Path{{
			NextHop: addr("10.0.0.2"), Peer: addr("10.0.0.9"), EBGP: true,
		}}}}
		equal := cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
		if diff := cmp.Diff(want, drained(w.feed), equal); diff != "" {
			t.Errorf("update (-want +got):\n%s", diff)
		}
	})
}

// BenchmarkBestSets is the way of 100,000 routes from the engine to the consumer.
func BenchmarkBestSets(b *testing.B) {
	c := Config{ASN: 64512}
	w := newWatch(&c, newLedger())
	hops := [][]gobgp.Path{{{Peer: addr("10.0.0.9"), PeerAS: 64512, NextHop: addr("10.0.0.2")}}, {{Peer: addr("10.0.0.9"), PeerAS: 64512, NextHop: addr("10.0.0.3")}}}
	b.ReportAllocs()
	for b.Loop() {
		for i := range 100_000 {
			w.bestSet(block4(i), hops[i/64%2])
		}
		w.feed.signal()
		w.feed.drain(func(rib.Update) {})
	}
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

// TestFeedSince: a drain returns when the oldest update came that it delivers.
func TestFeedSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		if since := f.drain(func(rib.Update) {}); !since.IsZero() {
			t.Errorf("%v without an update", since)
		}
		for range 2 {
			first := time.Now()
			for i := range 3 {
				f.replace(block4(i), nil)
				time.Sleep(time.Second) // synctest's clock
			}
			if since := f.drain(func(rib.Update) {}); !since.Equal(first) {
				t.Errorf("since %v, want %v", since, first)
			}
		}
	})
}

// TestFeedBounded: routes that flap while the consumer is busy do not make the
// queue grow beyond its bound.
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
