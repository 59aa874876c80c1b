package bmp

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
)

// minBacklog is how many changes may wait for a collector, or as many as the tables had
// prefixes, if that is more: a lost session can change each of them at once. One costs
// about 100 bytes.
const minBacklog = 64 << 10

// backlog has the changes that a station has not sent yet: of each prefix that it
// changed, of each peer its newest state. The source's goroutine fills it and never
// waits.
type backlog struct {
	wake chan struct{} // has room for one signal: full means that there is news

	mu       sync.Mutex // guards all below
	views    views
	limit    int
	up       map[netip.Addr]bool
	peers    map[netip.Addr]*peerNews
	changes  map[change]views
	markers  []marker
	overflow bool // changes were dropped: the collector's tables are wrong from here on
}

// views is a set of them.
type views uint8

const (
	inReceived views = 1 << iota
	inAccepted
	inBest
)

func viewsOf(list []View) (set views) {
	for _, v := range list {
		switch v {
		case Received:
			set |= inReceived
		case Accepted:
			set |= inAccepted
		case Best:
			set |= inBest
		}
	}
	return set
}

// peerNews is what happened to a session since the last batch.
type peerNews struct {
	down *End     // the end of the session that the station has sent, if it has
	up   *Session // the present one, if it began since
}

// change is a prefix whose route changed, of a peer or, with the zero Addr, of the
// Loc-RIB.
type change struct {
	peer   netip.Addr
	prefix netip.Prefix
}

// marker is an End-of-RIB of a peer.
type marker struct {
	peer   netip.Addr
	family Family
}

func newBacklog(v views) *backlog {
	return &backlog{
		wake: make(chan struct{}, 1), views: v, limit: minBacklog,
		up: map[netip.Addr]bool{}, peers: map[netip.Addr]*peerNews{}, changes: map[change]views{},
	}
}

// batch is the news of a backlog.
type batch struct {
	peers    map[netip.Addr]*peerNews
	changes  map[change]views
	markers  []marker
	overflow bool
}

// take removes the news.
func (l *backlog) take() batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := batch{peers: l.peers, changes: l.changes, markers: l.markers, overflow: l.overflow}
	l.peers, l.changes, l.markers = map[netip.Addr]*peerNews{}, map[change]views{}, nil
	return b
}

// moved reports whether the session that a batch was taken of has ended since.
func (l *backlog) moved(peer netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peers[peer] != nil
}

// waiting returns how many changes wait.
func (l *backlog) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.changes)
}

// bound sets how many changes may wait to the number of prefixes of the tables.
func (l *backlog) bound(prefixes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = max(minBacklog, prefixes)
}

// drop lets the changes go that can no longer be sent.
func (l *backlog) drop() {
	l.overflow, l.changes = true, map[change]views{}
}

func (l *backlog) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Up implements [Watcher].
func (l *backlog) Up(s *Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up[s.Peer] { // its end was not reported
		l.downLocked(s.Peer, End{})
	}
	l.up[s.Peer] = true
	l.newsLocked(s.Peer).up = s
	l.signal()
}

// Down implements [Watcher].
func (l *backlog) Down(peer netip.Addr, end End) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up[peer] {
		l.downLocked(peer, end)
		l.signal()
	}
}

func (l *backlog) downLocked(peer netip.Addr, end End) {
	delete(l.up, peer)
	n := l.newsLocked(peer)
	if n.up == nil && n.down == nil {
		n.down = &end
	}
	n.up = nil
	l.markers = slices.DeleteFunc(l.markers, func(m marker) bool { return m.peer == peer })
}

func (l *backlog) newsLocked(peer netip.Addr) *peerNews {
	n := l.peers[peer]
	if n == nil {
		n = &peerNews{}
		l.peers[peer] = n
	}
	return n
}

// Changed implements [Watcher].
func (l *backlog) Changed(peer netip.Addr, prefix netip.Prefix, acceptedOnly bool) {
	set := inReceived | inAccepted
	if acceptedOnly {
		set = inAccepted
	}
	l.mark(change{peer, prefix}, set)
}

// BestChanged implements [Watcher].
func (l *backlog) BestChanged(prefix netip.Prefix) { l.mark(change{prefix: prefix}, inBest) }

func (l *backlog) mark(c change, set views) {
	l.mu.Lock()
	defer l.mu.Unlock()
	set &= l.views
	if set == 0 || l.overflow || c.peer.IsValid() && !l.up[c.peer] {
		return
	}
	if len(l.changes) >= l.limit && l.changes[c] == 0 {
		l.drop()
	} else {
		l.changes[c] |= set
	}
	l.signal()
}

// EndOfRIB implements [Watcher]. A repeated marker of one batch says no more than the
// first.
func (l *backlog) EndOfRIB(peer netip.Addr, f Family) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := marker{peer, f}
	if !l.up[peer] || l.views&(inReceived|inAccepted) == 0 || slices.Contains(l.markers, m) {
		return
	}
	l.markers = append(l.markers, m)
	l.signal()
}

// sorted returns the changes by peer and prefix: neighbours share messages.
func (b *batch) sorted() []change {
	list := make([]change, 0, len(b.changes))
	for c := range b.changes {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b change) int {
		return cmp.Or(a.peer.Compare(b.peer), a.prefix.Compare(b.prefix))
	})
	return list
}
