package bmp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// page is how many prefixes are read from the source at once: it reads them on its own
// goroutine, which must not be held up.
const page = 256

// errOverflow is of a collector that reads more slowly than routes change.
var errOverflow = errors.New("the collector reads more slowly than routes change; all routes are sent anew")

// session is one connection to a collector, from the initiation on. It belongs to its
// goroutine, except for the backlog.
type session struct {
	*Config

	set    *Settings
	out    *bufio.Writer
	failed error // the first of out: nothing is sent any more
	sent   func(messages, size int)
	news   *backlog
	shown  map[netip.Addr]*instance // peers that the collector has a Peer Up of
	sizes  map[netip.Addr]int       // prefixes of the first dump of each peer, and of the Loc-RIB
	buf    []byte
}

// run sends until ctx ends, the collector closes the connection (gone), or an error.
func (s *session) run(ctx context.Context, gone <-chan error) error {
	s.send(1, appendInitiation(nil, s.Name, s.Descr))
	stop, err := s.Source.Watch(s.news)
	if err != nil {
		return fmt.Errorf("watch the routes: %w", err)
	}
	defer stop()
	if s.news.views&inBest != 0 {
		if err := s.table(ctx); err != nil {
			return err
		}
	}
	var due <-chan time.Time
	if s.set.Statistics > 0 {
		tick := time.NewTicker(s.set.Statistics)
		defer tick.Stop()
		due = tick.C
	}
	for {
		if err := s.flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-gone:
			return err
		case <-due:
			err = s.report()
		case <-s.news.wake:
			err = s.batch(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// send sends messages, some later with others.
func (s *session) send(messages int, b []byte) {
	if s.failed != nil {
		return
	}
	if _, s.failed = s.out.Write(b); s.failed == nil {
		s.sent(messages, len(b))
	}
}

// flush sends all that waits. It returns the first error of sending.
func (s *session) flush() error {
	if s.failed == nil {
		s.failed = s.out.Flush()
	}
	if s.failed == nil {
		return nil
	}
	if timeout, ok := errors.AsType[net.Error](s.failed); ok && timeout.Timeout() {
		return fmt.Errorf("the collector read nothing for %s", s.write)
	}
	return fmt.Errorf("send: %w", plain(s.failed))
}

// table sends the Loc-RIB: its Peer Up, all routes, the markers.
func (s *session) table(ctx context.Context) error {
	in := s.tableInstance()
	open := tableOpen(s.ASN, s.RouterID)
	s.send(1, in.appendUp(nil, &Session{SentOpen: open, ReceivedOpen: open, Since: time.Now()}, defaultTable))
	if err := s.dump(ctx, Table{View: Best}, in); err != nil {
		return err
	}
	for _, f := range []Family{IPv4, IPv6} {
		s.send(1, in.appendEndOfRIB(nil, Best, f))
	}
	return nil
}

func (s *session) tableInstance() *instance {
	return &instance{kind: locRIBPeer, asn: s.ASN, routerID: s.RouterID}
}

// dump sends all routes of a table.
func (s *session) dump(ctx context.Context, of Table, in *instance) error {
	prefixes, err := s.Source.Prefixes(of)
	if err != nil {
		return s.readError(of.Peer, err)
	}
	s.sizes[of.Peer] = len(prefixes)
	s.bound()
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	for some := range slices.Chunk(prefixes, page) {
		if err := s.routes(ctx, of, in, some); err != nil {
			return err
		}
	}
	return nil
}

// bound lets as many changes wait as the tables have prefixes.
func (s *session) bound() {
	sum := 0
	for _, n := range s.sizes {
		sum += n
	}
	s.news.bound(sum)
}

// routes sends what a table has of some prefixes.
func (s *session) routes(ctx context.Context, of Table, in *instance, prefixes []netip.Prefix) error {
	if of.Peer.IsValid() && s.news.moved(of.Peer) {
		return nil // the next batch has its end
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	updates, err := s.Source.Updates(of, prefixes)
	if err != nil {
		return s.readError(of.Peer, err)
	}
	s.buf = s.buf[:0]
	for _, u := range updates {
		s.buf = in.appendRoutes(s.buf, of.View, u)
	}
	s.send(len(updates), s.buf)
	if s.failed != nil {
		return s.flush()
	}
	return nil
}

// readError ignores an error about a peer that is gone: its end is in the next batch.
func (s *session) readError(peer netip.Addr, err error) error {
	if peer.IsValid() && s.news.moved(peer) {
		return nil
	}
	return fmt.Errorf("read the routes: %w", err)
}

// batch sends what happened since the last one.
func (s *session) batch(ctx context.Context) error {
	b := s.news.take()
	if b.overflow {
		return errOverflow
	}
	for _, peer := range sortedPeers(b.peers) {
		if err := s.peer(ctx, peer, b.peers[peer]); err != nil {
			return err
		}
	}
	if err := s.changed(ctx, &b); err != nil {
		return err
	}
	for _, m := range b.markers {
		if p := s.shown[m.peer]; p != nil && !s.news.moved(m.peer) {
			s.markers(p, m.family)
		}
	}
	return nil
}

func sortedPeers(m map[netip.Addr]*peerNews) []netip.Addr {
	list := make([]netip.Addr, 0, len(m))
	for a := range m {
		list = append(list, a)
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

// peer sends the end of a peer's session, and the one that began.
func (s *session) peer(ctx context.Context, addr netip.Addr, n *peerNews) error {
	if p := s.shown[addr]; p != nil {
		end := n.down
		if end == nil {
			end = &End{}
		}
		s.send(1, p.appendDown(nil, *end))
		delete(s.shown, addr)
		delete(s.sizes, addr)
	}
	if n.up == nil {
		return nil
	}
	p := &instance{kind: globalPeer, addr: addr, asn: n.up.ASN, routerID: n.up.RouterID}
	s.shown[addr] = p
	s.send(1, p.appendUp(nil, n.up, ""))
	for _, v := range s.peerViews() {
		if err := s.dump(ctx, Table{v, addr}, p); err != nil {
			return err
		}
	}
	if s.news.moved(addr) {
		return nil
	}
	for _, f := range n.up.Families {
		if n.up.ended(f, time.Now()) {
			s.markers(p, f)
		} // else the peer's own marker comes
	}
	return nil
}

// peerViews are the views of peers that the station has.
func (s *session) peerViews() (list []View) {
	for _, v := range s.set.Monitor {
		if v != Best {
			list = append(list, v)
		}
	}
	return list
}

// markers sends the End-of-RIB of a peer's family, in each view.
func (s *session) markers(p *instance, f Family) {
	for _, v := range s.peerViews() {
		s.send(1, p.appendEndOfRIB(nil, v, f))
	}
}

// changed sends the routes that changed.
func (s *session) changed(ctx context.Context, b *batch) error {
	list := b.sorted()
	for len(list) > 0 {
		n := 1
		for n < min(len(list), page) && list[n].peer == list[0].peer {
			n++
		}
		if err := s.changedOf(ctx, b, list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// changedOf sends the changed routes of one peer, or of the Loc-RIB.
func (s *session) changedOf(ctx context.Context, b *batch, list []change) error {
	peer, in := list[0].peer, s.tableInstance()
	if peer.IsValid() {
		if in = s.shown[peer]; in == nil {
			return nil
		}
	}
	for _, v := range s.set.Monitor {
		var prefixes []netip.Prefix
		for _, c := range list {
			if b.changes[c]&viewsOf([]View{v}) != 0 {
				prefixes = append(prefixes, c.prefix)
			}
		}
		if len(prefixes) == 0 {
			continue
		}
		if err := s.routes(ctx, Table{v, peer}, in, prefixes); err != nil {
			return err
		}
	}
	return nil
}

// report sends the statistics of every peer, and of the Loc-RIB.
func (s *session) report() error {
	counts, err := s.Source.Counts()
	if err != nil {
		return fmt.Errorf("count the routes: %w", err)
	}
	for _, p := range s.shown {
		c, up := counts.Peers[p.addr]
		if !up {
			continue
		}
		var st stats
		st.families(statReceived, statReceivedFamily, c.Received)
		st.treatedAsWithdraw(c.Withdrawn)
		s.send(1, p.appendStats(nil, &st))
	}
	if s.news.views&inBest != 0 {
		var st stats
		st.families(statBest, statBestFamily, counts.Best)
		s.send(1, s.tableInstance().appendStats(nil, &st))
	}
	return nil
}
