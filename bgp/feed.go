package bgp

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"onlink/rib"
)

// feed queues the engine's best-path events for the consumer: the newest full
// set of every prefix that has an event. It keeps no set that it has delivered,
// because the consumer does.
type feed struct {
	// changed has room for one signal: the method signal sends, and it is never
	// closed; full means that the consumer has not drained since the last signal.
	changed chan struct{}

	mu     sync.Mutex // guards all below
	news   [][]rib.Update
	count  int            // of the updates in news
	limit  int            // count at which older updates of a prefix are removed
	free   [][]rib.Update // empty chunks for news
	frozen bool           // stopped: no more updates are queued
	since  time.Time      // when the oldest update in news was queued; valid if count > 0

	// The latest set and its usable paths: the prefixes of an UPDATE share one
	// set, so they share one slice.
	latest []member
	paths  []rib.Path
}

const (
	// feedLimit bounds the queue: its length is at most the greater of this and
	// twice the number of its prefixes.
	feedLimit = 64 << 10
	// feedChunk is the number of updates whose memory is allocated at once.
	feedChunk = 512
	// feedFree is the number of empty chunks that are kept for reuse.
	feedFree = 16
)

// member is one path of a prefix's multipath set.
type member struct {
	stale bool // LLGR_STALE (RFC 9494): used only while there is no fresh path
	path  rib.Path
}

func newFeed() *feed {
	return &feed{changed: make(chan struct{}, 1), limit: feedLimit}
}

// replace queues the set of prefix from an event; the slice itself is not kept. It
// is called on the engine's goroutine and must not block.
func (f *feed) replace(prefix netip.Prefix, set []member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.frozen {
		return
	}
	if !slices.Equal(set, f.latest) {
		f.latest = append(f.latest[:0], set...)
		f.paths = usable(set)
	}
	if f.count == 0 {
		f.since = time.Now()
	}
	if f.count >= f.limit {
		all := newest(slices.Concat(f.news...))
		f.news, f.count = [][]rib.Update{all}, len(all)
		f.limit = max(feedLimit, 2*f.count)
	}
	f.room()
	last := &f.news[len(f.news)-1]
	*last = append(*last, rib.Update{Prefix: prefix, Paths: f.paths})
	f.count++
}

// room makes sure that the last chunk has room for one more update.
func (f *feed) room() {
	if n := len(f.news); n > 0 && len(f.news[n-1]) < cap(f.news[n-1]) {
		return
	}
	var chunk []rib.Update
	if n := len(f.free); n > 0 {
		chunk, f.free = f.free[n-1], f.free[:n-1]
	} else {
		chunk = make([]rib.Update, 0, feedChunk)
	}
	f.news = append(f.news, chunk)
}

// signal wakes the consumer when updates are queued.
func (f *feed) signal() {
	f.mu.Lock()
	news := f.count > 0
	f.mu.Unlock()
	if !news {
		return
	}
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// drain calls each with the full set of every prefix that had an event since the
// last call, in prefix order. The engine does not wait for it. The set may be the
// same as before, and an empty one may be of a prefix that the consumer has never
// received: one of ours. since is when the oldest of the events came, the zero Time
// when there is none.
func (f *feed) drain(each func(rib.Update)) (since time.Time) {
	f.mu.Lock()
	news := f.news
	if f.count > 0 {
		since = f.since
	}
	f.news, f.count, f.limit = nil, 0, feedLimit
	f.mu.Unlock()
	if len(news) == 0 {
		return since
	}
	if !ascending(news) {
		for _, u := range newest(slices.Concat(news...)) {
			each(u)
		}
	} else { // most peers announce their table in this order, no prefix twice
		for _, chunk := range news {
			for _, u := range chunk {
				each(u)
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, chunk := range news {
		if len(f.free) < feedFree && cap(chunk) == feedChunk {
			clear(chunk) // let the paths go
			f.free = append(f.free, chunk[:0])
		}
	}
	return since
}

// newest returns the last update of every prefix, in prefix order.
func newest(news []rib.Update) []rib.Update {
	order := make([]int, len(news))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		if c := news[a].Prefix.Compare(news[b].Prefix); c != 0 {
			return c
		}
		return a - b
	})
	out := make([]rib.Update, 0, len(news))
	for i, at := range order {
		if i+1 < len(order) && news[order[i+1]].Prefix == news[at].Prefix {
			continue
		}
		out = append(out, news[at])
	}
	return out
}

// ascending reports whether each prefix is greater than the one before.
func ascending(news [][]rib.Update) bool {
	var last netip.Prefix // less than all others
	for _, chunk := range news {
		for i := range chunk {
			if last.Compare(chunk[i].Prefix) >= 0 {
				return false
			}
			last = chunk[i].Prefix
		}
	}
	return true
}

// freeze stops the queue: from here on the engine withdraws everything because it
// stops, and the kernel must keep the routes.
func (f *feed) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = true
}

// usable returns the paths of a set: fresh ones if there are any, one per
// next hop (two reflectors announce the same one), in an order that is the same
// in every run.
func usable(set []member) []rib.Path {
	if len(set) == 0 {
		return nil
	}
	fresh := slices.ContainsFunc(set, func(m member) bool { return !m.stale })
	paths := make([]rib.Path, 0, len(set))
	for _, m := range set {
		if !fresh || !m.stale {
			paths = append(paths, m.path)
		}
	}
	slices.SortFunc(paths, func(a, b rib.Path) int {
		if c := a.NextHop.Compare(b.NextHop); c != 0 {
			return c
		}
		return a.Peer.Compare(b.Peer)
	})
	return slices.CompactFunc(paths, func(a, b rib.Path) bool { return a.NextHop == b.NextHop })
}
