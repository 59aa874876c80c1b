package bgp

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"onlink/rib"
)

// feed folds the engine's best-path events into the newest full set per
// prefix. Events are deltas (paths that left the multipath set, then paths
// that joined or changed), in order per prefix; the set must be rebuilt here
// because a consumer that skips one delta would be wrong for ever.
type feed struct {
	localAS uint32
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
	pathID uint32
	stale  bool // LLGR_STALE (RFC 9494): used only while there is nothing fresh
	path   rib.Path
}

func newFeed(localAS uint32) *feed {
	return &feed{
		localAS: localAS,
		changed: make(chan struct{}, 1),
		sets:    make(map[netip.Prefix][]member),
		dirty:   make(map[netip.Prefix]struct{}),
	}
}

// fold takes one event of the engine. It is called on the engine's watcher
// goroutine and must not block.
func (f *feed) fold(paths []*apiutil.Path, _ time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.frozen {
		return
	}
	for _, p := range paths {
		f.foldPathLocked(p)
	}
	if len(f.dirty) == 0 {
		return
	}
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *feed) foldPathLocked(p *apiutil.Path) {
	// A path without a peer is our own: it is no news to the consumer, and
	// the withdrawal of what it displaced arrives as a delta of its own.
	if p == nil || !p.PeerAddress.IsValid() {
		return
	}
	prefix, ok := prefixOf(p.Nlri)
	if !ok {
		return
	}
	peer := p.PeerAddress.Unmap()
	set := f.sets[prefix]
	i := slices.IndexFunc(set, func(m member) bool { return m.path.Peer == peer && m.pathID == p.RemoteID })
	hop := nextHopOf(p.Attrs)
	m := member{pathID: p.RemoteID, stale: isLLGRStale(p.Attrs), path: rib.Path{
		Prefix: prefix, NextHop: hop, Peer: peer, EBGP: p.PeerASN != f.localAS,
	}}
	gone := p.Withdrawal || !hop.IsValid()
	switch {
	case gone && i < 0, !gone && i >= 0 && set[i] == m:
		return
	case gone:
		set = slices.Delete(set, i, i+1)
	case i < 0:
		set = append(set, m)
	default:
		set[i] = m
	}
	if len(set) == 0 {
		delete(f.sets, prefix)
	} else {
		f.sets[prefix] = set
	}
	f.dirty[prefix] = struct{}{}
}

// drain returns the full set of every prefix that changed since the last
// call, in prefix order.
func (f *feed) drain() []rib.Update {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.dirty) == 0 {
		return nil
	}
	updates := make([]rib.Update, 0, len(f.dirty))
	for prefix := range f.dirty {
		updates = append(updates, rib.Update{Prefix: prefix, Paths: usable(f.sets[prefix])})
	}
	clear(f.dirty)
	slices.SortFunc(updates, func(a, b rib.Update) int { return a.Prefix.Compare(b.Prefix) })
	return updates
}

// freeze makes the feed deaf: from here on the engine withdraws everything
// because it stops, and the kernel shall keep the routes.
func (f *feed) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = true
}

// pass orders the caller after every fold that has returned.
func (f *feed) pass() {
	f.mu.Lock()
	defer f.mu.Unlock()
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

// prefixOf returns the prefix of a unicast NLRI.
func prefixOf(n bgp.NLRI) (netip.Prefix, bool) {
	ip, ok := n.(*bgp.IPAddrPrefix)
	if !ok || !ip.Prefix.IsValid() {
		return netip.Prefix{}, false
	}
	return ip.Prefix.Masked(), true
}

// nextHopOf returns the next hop among a path's attributes.
func nextHopOf(attrs []bgp.PathAttributeInterface) netip.Addr {
	for _, a := range attrs {
		switch a := a.(type) {
		case *bgp.PathAttributeNextHop:
			return a.Value.Unmap()
		case *bgp.PathAttributeMpReachNLRI:
			return a.Nexthop.Unmap()
		}
	}
	return netip.Addr{}
}

func isLLGRStale(attrs []bgp.PathAttributeInterface) bool {
	for _, a := range attrs {
		if c, ok := a.(*bgp.PathAttributeCommunities); ok {
			return slices.Contains(c.Value, communityLLGRStale)
		}
	}
	return false
}
