package bmp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

var (
	peerA = netip.MustParseAddr("10.57.0.12")
	peerB = netip.MustParseAddr("fe80::1%eth0")
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// numbered returns the i-th of many prefixes of 24 bits.
func numbered(i int) netip.Prefix {
	a := netip.AddrFrom4([4]byte{20 + byte(i>>16), byte(i >> 8), byte(i)})
	return netip.PrefixFrom(a, 24)
}

// came is when all routes of a speaker came.
var came = time.Unix(1_700_000_000, 250_000_000)

// speaker is a source with tables in memory: a route is a MED.
type speaker struct {
	mu       sync.Mutex
	watchers []Watcher
	sessions map[netip.Addr]*Session
	tables   map[Table]map[netip.Prefix]uint32
	watched  int // how often it was watched
	reads    int // pages of routes
}

func newSpeaker() *speaker {
	return &speaker{sessions: map[netip.Addr]*Session{}, tables: map[Table]map[netip.Prefix]uint32{}}
}

func (s *speaker) Watch(w Watcher) (stop func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched++
	for _, one := range s.sessions {
		w.Up(one)
	}
	s.watchers = append(s.watchers, w)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watchers = slices.DeleteFunc(s.watchers, func(o Watcher) bool { return o == w })
	}, nil
}

func (s *speaker) Prefixes(of Table) ([]netip.Prefix, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.tables[of])), nil
}

func (s *speaker) Updates(of Table, prefixes []netip.Prefix) (list []Update, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if len(prefixes) > page {
		return nil, fmt.Errorf("%d prefixes at once", len(prefixes))
	}
	if of.Peer.IsValid() && s.sessions[of.Peer] == nil {
		return nil, errors.New("no such peer")
	}
	for _, p := range prefixes {
		med, ok := s.tables[of][p]
		u := Update{Message: updateMessage(p, med, ok)}
		if ok {
			u.At = came
		}
		list = append(list, u)
	}
	return list, nil
}

func (s *speaker) Counts() (Counts, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Counts{Peers: map[netip.Addr]PeerCounts{}, Best: map[Family]uint64{IPv4: uint64(len(s.tables[Table{View: Best}]))}}
	for peer := range s.sessions {
		c.Peers[peer] = PeerCounts{Received: map[Family]uint64{IPv4: uint64(len(s.tables[Table{Received, peer}])), IPv6: 0}, Withdrawn: 7}
	}
	return c, nil
}

// each informs the watchers.
func (s *speaker) each(fn func(Watcher)) {
	for _, w := range s.watchers {
		fn(w)
	}
}

// up begins a session.
func (s *speaker) up(one *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[one.Peer] = one
	s.each(func(w Watcher) { w.Up(one) })
}

// down ends one, with its routes.
func (s *speaker) down(peer netip.Addr, end End) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, peer)
	delete(s.tables, Table{Received, peer})
	delete(s.tables, Table{Accepted, peer})
	s.each(func(w Watcher) { w.Down(peer, end) })
}

// announce sets a route of a peer in all tables; a MED of 0 withdraws it.
func (s *speaker) announce(peer netip.Addr, p netip.Prefix, med uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range []Table{{Received, peer}, {Accepted, peer}, {View: Best}} {
		if s.tables[of] == nil {
			s.tables[of] = map[netip.Prefix]uint32{}
		}
		if s.tables[of][p] = med; med == 0 {
			delete(s.tables[of], p)
		}
	}
	s.each(func(w Watcher) {
		w.Changed(peer, p, false)
		w.BestChanged(p)
	})
}

// ended reports the End-of-RIB of a peer.
func (s *speaker) ended(peer netip.Addr, f Family) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.each(func(w Watcher) { w.EndOfRIB(peer, f) })
}

func (s *speaker) table(of Table) map[netip.Prefix]uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.tables[of])
}

func (s *speaker) watching() (now, ever int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.watchers), s.watched
}

// updateMessage returns an UPDATE with one IPv4 prefix.
func updateMessage(p netip.Prefix, med uint32, announced bool) []byte {
	addr := p.Addr().As4()
	nlri := append([]byte{byte(p.Bits())}, addr[:(p.Bits()+7)/8]...)
	if !announced {
		body := append(binary.BigEndian.AppendUint16(nil, uint16(len(nlri))), nlri...)
		return bgpMessage(bgpUpdate, append(body, 0, 0))
	}
	attrs := []byte{0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 1, 0, 0, 0x40, 3, 4, 10, 57, 0, 1} // IGP, AS 65536, next hop
	attrs = binary.BigEndian.AppendUint32(append(attrs, 0x80, 4, 4), med)
	body := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attrs)))
	return bgpMessage(bgpUpdate, append(append(body, attrs...), nlri...))
}

// sessionWith returns a session without graceful restart, as a peer of another AS has.
func sessionWith(t *testing.T, peer netip.Addr) *Session {
	t.Helper()
	local := "10.57.0.11"
	if peer.Is6() {
		local = "fe80::11%eth0"
	}
	return &Session{
		Peer: peer, ASN: 4_200_000_001, RouterID: netip.MustParseAddr("10.57.0.12"), Since: came,
		Local: netip.AddrPortFrom(netip.MustParseAddr(local), 179), Remote: netip.AddrPortFrom(peer, 40001),
		SentOpen: tableOpen(64512, netip.MustParseAddr("10.57.0.11")), ReceivedOpen: tableOpen(4_200_000_001, netip.MustParseAddr("10.57.0.12")),
		Families: []Family{IPv4, IPv6},
	}
}
