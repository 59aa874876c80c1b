package bgp

import (
	"net/netip"
	"slices"
	"sync"

	"onlink/rib"
)

// feed queues the engine's best-path events for the consumer: the newest full
// set of every prefix that an event named. It does not remember what it has
// told, for the consumer does.
type feed struct {
	// changed has room for one signal: fold sends, never closes; full means
	// that the consumer has been told and has not drained yet.
	changed chan struct{}

	told []rib.Update // what the last drain returned; only drain uses it

	mu     sync.Mutex // guards all below
	news   []rib.Update
	spare  []rib.Update // news's other buffer
	limit  int          // length of news at which prefixes named twice are looked for
	frozen bool         // stopped: what the engine tears down is not news

	// The latest set and what is told of it: the prefixes of an UPDATE share
	// one set, so they share one slice.
	latest []member
	paths  []rib.Path
}

const (
	// feedLimit bounds the queue to this and twice the prefixes in it.
	feedLimit = 64 << 10
	// feedKeep is the length up to which a buffer is used again.
	feedKeep = 8 << 10
	feedGrow = 256
)

// member is one path of a prefix's multipath set.
type member struct {
	stale bool // LLGR_STALE (RFC 9494): used only while there is nothing fresh
	path  rib.Path
}

// best is one path of a best-path event.
type best struct {
	prefix netip.Prefix
	absent bool // withdrawn, or our own: it says only that the prefix is in the event
	member member
}

func newFeed() *feed {
	return &feed{changed: make(chan struct{}, 1), limit: feedLimit}
}

// fold takes one event of the engine. It is called on the engine's goroutine
// and must not block.
func (f *feed) fold(event []best) {
	for len(event) > 0 {
		// The paths of one prefix stand together.
		n := 1
		for n < len(event) && event[n].prefix == event[0].prefix {
			n++
		}
		set := make([]member, 0, n)
		for _, p := range event[:n] {
			if !p.absent {
				set = append(set, p.member)
			}
		}
		f.replace(event[0].prefix, set)
		event = event[n:]
	}
	f.signal()
}

// replace makes the set of prefix what an event says; the set is not kept. A
// prefix that is ours has no set: what we announce ourselves is not learned.
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
	if len(f.news) >= f.limit {
		f.news = newest(f.news)
		f.limit = max(feedLimit, 2*len(f.news))
	}
	if len(f.news) == cap(f.news) {
		// append alone grows a long list by a quarter, and copies it each time.
		f.news = slices.Grow(f.news, max(feedGrow, len(f.news)))
	}
	f.news = append(f.news, rib.Update{Prefix: prefix, Paths: f.paths})
}

// signal tells the consumer when there is news.
func (f *feed) signal() {
	f.mu.Lock()
	news := len(f.news) > 0
	f.mu.Unlock()
	if !news {
		return
	}
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// drain returns the full set of every prefix that events have named since the
// last call, in prefix order. The engine does not wait while it sorts. The set
// may be the same as before, and an empty one may be of a prefix never told:
// one of ours. The list is valid until the next call.
func (f *feed) drain() []rib.Update {
	clear(f.told) // the paths in it
	f.mu.Lock()
	news := f.news
	f.news, f.limit = f.spare[:0], feedLimit
	f.spare = f.told[:0]
	f.mu.Unlock()
	f.told = nil
	if cap(news) <= feedKeep {
		f.told = news
	}
	return newest(news)
}

// newest returns the last update of every prefix, in prefix order.
func newest(news []rib.Update) []rib.Update {
	switch {
	case len(news) == 0:
		return nil
	case ascending(news):
		return news // as most peers announce their table, and no prefix twice
	}
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
func ascending(news []rib.Update) bool {
	for i := 1; i < len(news); i++ {
		if news[i-1].Prefix.Compare(news[i].Prefix) >= 0 {
			return false
		}
	}
	return true
}

// freeze makes the feed deaf: from here on the engine withdraws everything
// because it stops, and the kernel shall keep the routes.
func (f *feed) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = true
}

// usable returns the paths of a set: fresh ones if there are any, one per
// next hop (two reflectors tell the same one), ordered so that every run
// yields the same list.
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
