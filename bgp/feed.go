package bgp

import (
	"net/netip"
	"slices"
	"sync"

	"onlink/rib"
)

// feed folds the engine's best-path events into the newest full set per
// prefix. An event names, for each prefix in it, the whole multipath set.
type feed struct {
	// changed has room for one signal: fold sends, never closes; full means
	// that the consumer has been told and has not drained yet.
	changed chan struct{}

	mu     sync.Mutex // guards all below
	sets   map[netip.Prefix][]member
	dirty  map[netip.Prefix]struct{}
	frozen bool // stopped: what the engine tears down is not news
}

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
	return &feed{
		changed: make(chan struct{}, 1),
		sets:    make(map[netip.Prefix][]member),
		dirty:   make(map[netip.Prefix]struct{}),
	}
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

// replace makes the set of prefix what an event says, and keeps it. A prefix
// that is ours has no set: what we announce ourselves is no news to the consumer.
func (f *feed) replace(prefix netip.Prefix, set []member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.frozen || slices.Equal(set, f.sets[prefix]) {
		return
	}
	if len(set) == 0 {
		delete(f.sets, prefix)
	} else {
		f.sets[prefix] = set
	}
	f.dirty[prefix] = struct{}{}
}

// signal tells the consumer when there is news.
func (f *feed) signal() {
	f.mu.Lock()
	news := len(f.dirty) > 0
	f.mu.Unlock()
	if !news {
		return
	}
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// drain returns the full set of every prefix that changed since the last
// call, in prefix order. The engine does not wait while it sorts.
func (f *feed) drain() []rib.Update {
	type change struct {
		prefix netip.Prefix
		set    []member
	}
	f.mu.Lock()
	changes := make([]change, 0, len(f.dirty))
	for prefix := range f.dirty {
		changes = append(changes, change{prefix, f.sets[prefix]})
	}
	clear(f.dirty)
	f.mu.Unlock()
	if len(changes) == 0 {
		return nil
	}
	slices.SortFunc(changes, func(a, b change) int { return a.prefix.Compare(b.prefix) })
	updates := make([]rib.Update, len(changes))
	for i, c := range changes {
		updates[i] = rib.Update{Prefix: c.prefix, Paths: usable(c.set)}
	}
	return updates
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
