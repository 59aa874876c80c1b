package bmp

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	codec "github.com/osrg/gobgp/v3/pkg/packet/bmp"
)

// lines is a log that a test reads.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

// started is the stations of a test.
type started struct {
	*Stations

	log    *lines
	cancel context.CancelFunc
	ended  chan error
}

// start runs stations that retry soon.
func start(t *testing.T, from Source, list ...Settings) *started {
	t.Helper()
	return startWith(t, from, WriteTime, list...)
}

// startWith runs stations whose collectors must read something within write.
func startWith(t *testing.T, from Source, write time.Duration, list ...Settings) *started {
	t.Helper()
	log := &lines{}
	s := New(Config{
		Source: from, Name: "r1n1", Descr: "onlink v1", ASN: 64512, RouterID: netip.MustParseAddr("10.57.0.11"),
		Log: slog.New(slog.NewTextHandler(log, nil)), Stations: list, retry: 20 * time.Millisecond, write: write,
	})
	ctx, cancel := context.WithCancel(context.Background())
	out := &started{Stations: s, log: log, cancel: cancel, ended: make(chan error, 1)}
	go func() { out.ended <- s.Run(ctx) }()
	t.Cleanup(out.end)
	return out
}

func (s *started) end() {
	s.cancel()
	err := <-s.ended
	s.ended <- err
}

// types returns the types of messages, those of runs of one type once.
func types(log []*codec.BMPMessage) (out []uint8) {
	for _, m := range log {
		out = append(out, m.Header.Type)
	}
	return slices.Compact(out)
}

// TestConnectionBegins: a collector receives the initiation, the Loc-RIB, then each peer
// with its OPENs, routes and markers, under the headers of RFC 7854 and RFC 9069.
func TestConnectionBegins(t *testing.T) {
	from := newSpeaker()
	for _, peer := range []netip.Addr{peerA, peerB} {
		from.up(sessionWith(t, peer))
	}
	from.announce(peerA, pfx("192.0.2.0/24"), 7)
	from.announce(peerB, pfx("198.51.100.0/25"), 8)
	c := newCollector(t)
	start(t, from, c.at("one", Received, Accepted, Best))
	const a, b = "10.57.0.12", "fe80::1"
	c.when("both peers' markers", func(c *collector) bool { return len(c.markers) == 10 })

	c.mu.Lock()
	defer c.mu.Unlock()
	want := map[string]map[netip.Prefix]uint32{
		"received " + a: {pfx("192.0.2.0/24"): 7}, "accepted " + a: {pfx("192.0.2.0/24"): 7},
		"received " + b: {pfx("198.51.100.0/25"): 8}, "accepted " + b: {pfx("198.51.100.0/25"): 8},
		"best": {pfx("192.0.2.0/24"): 7, pfx("198.51.100.0/25"): 8},
	}
	if diff := cmp.Diff(want, c.tables, cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	if got := types(c.log); !slices.Equal(got, []uint8{initiation, peerUp, routeMonitoring, peerUp, routeMonitoring, peerUp, routeMonitoring}) {
		t.Errorf("types of messages: %d", got)
	}
	info := c.log[0].Body.(*codec.BMPInitiation).Info
	if len(info) != 2 || info[0].(*codec.BMPInfoTLVString).Value != "onlink v1" || info[1].(*codec.BMPInfoTLVString).Value != "r1n1" {
		t.Errorf("initiation %+v", info)
	}
	for _, m := range c.log[1:] {
		h := m.PeerHeader
		six, post := h.PeerAddress.To4() == nil, h.Flags&flagPostPolicy != 0
		if h.Flags&^uint8(flagIPv6|flagPostPolicy) != 0 || h.Flags&flagIPv6 != 0 != six || h.PeerDistinguisher != 0 {
			t.Errorf("header %+v", h)
		}
		if h.PeerType == locRIBPeer && (post || !h.PeerAddress.IsUnspecified() || h.PeerAS != 64512 || h.PeerBGPID.String() != "10.57.0.11") {
			t.Errorf("header of the Loc-RIB %+v", h)
		}
		if h.PeerType == globalPeer && (h.PeerAS != 4_200_000_001 || h.PeerBGPID.String() != a) {
			t.Errorf("header of a peer %+v", h)
		}
		if m.Header.Type == peerUp && h.PeerType == globalPeer {
			up := m.Body.(*codec.BMPPeerUpNotification)
			if up.LocalPort != 179 || up.RemotePort != 40001 || up.LocalAddress.String() != map[bool]string{false: "10.57.0.11", true: "fe80::11"}[six] {
				t.Errorf("peer up %+v", up)
			}
			if h.Timestamp != 1_700_000_000.25 || up.SentOpenMsg.Body.(*bgp.BGPOpen).MyAS != 64512 || up.ReceivedOpenMsg.Body.(*bgp.BGPOpen).MyAS != asTrans {
				t.Errorf("peer up at %f: sent %+v, received %+v", h.Timestamp, up.SentOpenMsg.Body, up.ReceivedOpenMsg.Body)
			}
		}
	}
}

// TestTableName: the Peer Up of the Loc-RIB has the TLV that names it (RFC 9069 section
// 5.2.1), which the decoder of the other tests leaves out.
func TestTableName(t *testing.T) {
	t.Parallel()
	open := tableOpen(4_200_000_001, netip.MustParseAddr("10.57.0.11"))
	in := &instance{kind: locRIBPeer, asn: 4_200_000_001, routerID: netip.MustParseAddr("10.57.0.11")}
	b := in.appendUp(nil, &Session{SentOpen: open, ReceivedOpen: open}, defaultTable)
	if want := append([]byte{0, tableName, 0, 6}, "global"...); !bytes.HasSuffix(b, want) {
		t.Errorf("%x does not end with %x", b, want)
	}
	if n := binary.BigEndian.Uint32(b[1:]); int(n) != len(b) {
		t.Errorf("length %d of %d bytes", n, len(b))
	}
	m, err := bgp.ParseBGPMessage(open)
	if err != nil {
		t.Fatal(err)
	}
	var caps []string
	for _, o := range m.Body.(*bgp.BGPOpen).OptParams {
		for _, c := range o.(*bgp.OptionParameterCapability).Capability {
			switch c := c.(type) {
			case *bgp.CapMultiProtocol:
				caps = append(caps, c.CapValue.String())
			case *bgp.CapFourOctetASNumber:
				caps = append(caps, strconv.FormatUint(uint64(c.CapValue), 10))
			}
		}
	}
	if want := []string{"ipv4-unicast", "ipv6-unicast", "4200000001"}; !slices.Equal(caps, want) {
		t.Errorf("capabilities %q, want %q", caps, want)
	}
}

// FuzzInitiation: whatever a node is called, the message has the length that it says,
// and another implementation reads the names, cut to what a TLV should have.
func FuzzInitiation(f *testing.F) {
	f.Add("r1n1", "onlink v1")
	f.Add("", strings.Repeat("ä", 200))
	f.Fuzz(func(t *testing.T, name, descr string) {
		b := appendTermination(appendInitiation(nil, name, descr), closedForNow)
		n := binary.BigEndian.Uint32(b[1:])
		if end, err := codec.ParseBMPMessage(b[n:]); err != nil || end.Header.Type != termination || int(end.Header.Length) != len(b[n:]) {
			t.Fatalf("the message after it: %+v, %v", end, err)
		}
		m, err := codec.ParseBMPMessage(b[:n])
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{descr, name} {
			got := m.Body.(*codec.BMPInitiation).Info[i].(*codec.BMPInfoTLVString).Value
			if len(got) > maxText || len(want) <= maxText && got != want || !strings.HasPrefix(strings.ToValidUTF8(want, ""), got) && len(want) > maxText {
				t.Errorf("%q became %q", want, got)
			}
		}
	})
}

// TestPeerDown: each end of a session is the reason of RFC 7854 section 4.9 that it is,
// with the NOTIFICATION or the event.
func TestPeerDown(t *testing.T) {
	cease := bgpMessage(3, []byte{6, 2})
	for _, tt := range []struct {
		name string
		end  End
		want []byte // after the header
	}{
		{"this node sent a NOTIFICATION", End{Local: true, Notification: cease}, append([]byte{localNotification}, cease...)},
		{"this node closed", End{Local: true, Event: 18}, []byte{localEvent, 0, 18}},
		{"the peer sent a NOTIFICATION", End{Notification: cease}, append([]byte{remoteNotification}, cease...)},
		{"the connection was lost", End{}, []byte{remoteSilent}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := &instance{kind: globalPeer, addr: peerA, asn: 64512, routerID: peerA}
			b := in.appendDown(nil, tt.end)
			if got := b[headLen+codec.BMP_PEER_HEADER_SIZE:]; !bytes.Equal(got, tt.want) || b[5] != peerDown {
				t.Errorf("type %d, %x, want %x", b[5], got, tt.want)
			}
			if _, err := codec.ParseBMPMessage(b); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestChanges: after the first dump the collector's tables follow, a session that ended
// is down there, and comes up again with its new routes alone.
func TestChanges(t *testing.T) {
	from := newSpeaker()
	from.up(sessionWith(t, peerA))
	from.announce(peerA, pfx("192.0.2.0/24"), 1)
	c := newCollector(t)
	start(t, from, c.at("one", Received))
	holds := func(want map[netip.Prefix]uint32) func(*collector) bool {
		return func(c *collector) bool { return maps.Equal(c.tables["received 10.57.0.12"], want) }
	}
	c.when("the dump", holds(map[netip.Prefix]uint32{pfx("192.0.2.0/24"): 1}))
	from.announce(peerA, pfx("192.0.2.0/24"), 2)
	from.announce(peerA, pfx("198.51.100.0/24"), 3)
	c.when("the changes", holds(map[netip.Prefix]uint32{pfx("192.0.2.0/24"): 2, pfx("198.51.100.0/24"): 3}))
	from.announce(peerA, pfx("192.0.2.0/24"), 0)
	c.when("the withdrawal", holds(map[netip.Prefix]uint32{pfx("198.51.100.0/24"): 3}))

	from.down(peerA, End{Local: true, Event: 18})
	c.when("the peer down", func(c *collector) bool { return c.log[len(c.log)-1].Header.Type == peerDown })
	from.announce(peerA, pfx("203.0.113.0/24"), 9) // kept for its restart: not the peer's any more
	next := sessionWith(t, peerA)
	next.SendsEndOfRIB, next.Since = true, time.Now()
	from.up(next)
	c.when("the peer up", func(c *collector) bool {
		return c.log[len(c.log)-1].Header.Type == routeMonitoring && len(c.tables["received 10.57.0.12"]) == 1
	})
	c.mu.Lock()
	before := c.markers["received 10.57.0.12 ipv4-unicast"]
	c.mu.Unlock()
	from.ended(peerA, IPv4)
	c.when("the peer's own marker", func(c *collector) bool { return c.markers["received 10.57.0.12 ipv4-unicast"] == before+1 })
	if before != 1 {
		t.Errorf("%d markers before the peer has sent its own, want that of the first session alone", before)
	}
	for _, v := range []string{"accepted 10.57.0.12", "best"} {
		c.when("no table "+v, func(c *collector) bool { return c.tables[v] == nil })
	}
}

// TestFlaps: a session that flaps while the collector does not read costs one Peer Down
// and one Peer Up, and the reason is that of the session which the collector knows.
func TestFlaps(t *testing.T) {
	t.Parallel()
	l := newBacklog(inReceived)
	l.Up(sessionWith(t, peerA))
	l.take()
	for i := range 1000 {
		l.Down(peerA, End{Local: true, Event: uint16(i)})
		l.Up(sessionWith(t, peerA))
		l.EndOfRIB(peerA, IPv4)
		l.EndOfRIB(peerA, IPv4)
	}
	b := l.take()
	n := b.peers[peerA]
	if len(b.peers) != 1 || n.up == nil || n.down == nil || n.down.Event != 0 || len(b.markers) != 1 {
		t.Errorf("%+v, markers %v", n, b.markers)
	}
	l.Up(sessionWith(t, peerA)) // without an end before
	if n := l.take().peers[peerA]; n.up == nil || n.down == nil {
		t.Errorf("%+v: the end was not inferred", n)
	}
	l.Down(peerA, End{})
	l.Changed(peerA, pfx("192.0.2.0/24"), false)
	l.EndOfRIB(peerA, IPv4)
	if b := l.take(); len(b.changes)+len(b.markers) != 0 {
		t.Errorf("changes of a peer that is down: %+v", b)
	}
}

// TestStatistics: reports have the counters of every peer and of the Loc-RIB.
func TestStatistics(t *testing.T) {
	from := newSpeaker()
	from.up(sessionWith(t, peerA))
	from.announce(peerA, pfx("192.0.2.0/24"), 1)
	c := newCollector(t)
	set := c.at("one", Received, Best)
	set.Statistics = 20 * time.Millisecond
	start(t, from, set)
	values := func(m *codec.BMPMessage) string {
		var words []string
		for _, s := range m.Body.(*codec.BMPStatisticsReport).Stats {
			switch s := s.(type) {
			case *codec.BMPStatsTLV64:
				words = append(words, fmt.Sprintf("%d=%d", s.Type, s.Value))
			case *codec.BMPStatsTLV32:
				words = append(words, fmt.Sprintf("%d=%d", s.Type, s.Value))
			case *codec.BMPStatsTLVPerAfiSafi64:
				words = append(words, fmt.Sprintf("%d/%d/%d=%d", s.Type, s.AFI, s.SAFI, s.Value))
			}
		}
		return strings.Join(words, " ")
	}
	want := map[uint8]string{globalPeer: "7=1 9/1/1=1 9/2/1=0 11=7", locRIBPeer: "8=1 10/1/1=1"}
	c.when("both reports", func(c *collector) bool {
		got := map[uint8]string{}
		for _, m := range c.log {
			if m.Header.Type == statsReport {
				got[m.PeerHeader.PeerType] = values(m)
			}
		}
		return maps.Equal(got, want)
	})
}

// fill announces n routes of a peer.
func fill(from *speaker, n int) {
	for i := range n {
		from.announce(peerA, numbered(i), 1)
	}
}

// TestHugeTable: 100,000 routes to a collector that stands still in between: all arrive,
// and the memory that waits for the collector stays a part of a table.
func TestHugeTable(t *testing.T) {
	const n = 100_000
	from := newSpeaker()
	from.up(sessionWith(t, peerA))
	fill(from, n)
	c := newCollector(t)
	c.pause(true)
	before := heap()
	s := start(t, from, c.at("one", Received))
	eventually(t, "the dump has begun", func() error {
		from.mu.Lock()
		defer from.mu.Unlock()
		if from.reads == 0 {
			return errNotYet
		}
		return nil
	})
	for round := range uint32(3) { // each change is a mark, however often it comes
		for i := range n / 2 {
			from.announce(peerA, numbered(i), 2+round)
		}
	}
	if grown := heap() - before; grown > 40<<20 {
		t.Errorf("the heap grew by %d MB", grown>>20)
	}
	c.pause(false)
	want := from.table(Table{Received, peerA})
	c.when("all routes", func(c *collector) bool { return maps.Equal(c.tables["received 10.57.0.12"], want) })
	if st := s.Status()[0]; st.Overflows != 0 || st.Connections != 1 {
		t.Errorf("%+v", st)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // far below
}

// TestOverflow: a collector that reads more slowly than routes change loses the
// connection, not the node its memory; the next one begins with all routes.
func TestOverflow(t *testing.T) {
	from := newSpeaker()
	from.up(sessionWith(t, peerA))
	fill(from, 30_000) // more than sockets hold
	c := newCollector(t)
	c.pause(true)
	s := start(t, from, c.at("one", Received))
	eventually(t, "the dump begins", func() error {
		if now, _ := from.watching(); now == 0 {
			return errNotYet
		}
		return nil
	})
	fill(from, 4*minBacklog) // a part is in the sockets, another is the batch under way
	if st := s.Status()[0]; st.Waiting > minBacklog {
		t.Errorf("%d changes wait", st.Waiting)
	}
	c.pause(false)
	want := from.table(Table{Received, peerA})
	c.when("all routes over another connection", func(c *collector) bool {
		return c.connections == 2 && maps.Equal(c.tables["received 10.57.0.12"], want)
	})
	st := s.Status()[0]
	if st.Overflows != 1 || !st.Connected || !strings.Contains(st.LastError, "more slowly") {
		t.Errorf("%+v", st)
	}
}

// TestDeadCollector: one that reads nothing is cut off after the time for a write.
func TestDeadCollector(t *testing.T) {
	from := newSpeaker()
	from.up(sessionWith(t, peerA))
	fill(from, 100_000)
	c := newCollector(t)
	c.pause(true)
	s := startWith(t, from, time.Second, c.at("one", Received))
	eventually(t, "the reason", func() error {
		if st := s.Status()[0]; !strings.Contains(st.LastError, "read nothing for 1s") {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	eventually(t, "nothing is watched without a connection, or it is a new one", func() error {
		if now, ever := from.watching(); now > 1 || ever < 1 {
			return fmt.Errorf("%d watchers", now)
		}
		return nil
	})
}

// TestPlain: errors are words without the addresses of the connection.
func TestPlain(t *testing.T) {
	t.Parallel()
	of := func(err error) error {
		return &net.OpError{Op: "read", Net: "tcp", Addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("10.0.0.1:40001")), Err: os.NewSyscallError("read", err)}
	}
	for want, err := range map[string]error{
		"connection reset by peer": of(syscall.ECONNRESET),
		errSilent.Error():          of(syscall.ETIMEDOUT),
		"i/o timeout":              &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded},
		errClosed.Error():          errClosed,
	} {
		if got := plain(err).Error(); got != want {
			t.Errorf("%v became %q, want %q", err, got, want)
		}
	}
}

// TestReset: a connection that ends in the middle of a message, or after one, is made
// again, with all routes; the log has one line for each end.
func TestReset(t *testing.T) {
	from := newSpeaker()
	from.up(sessionWith(t, peerA))
	fill(from, 20_000)
	c := newCollector(t)
	s := start(t, from, c.at("one", Received))
	want := from.table(Table{Received, peerA})
	for n := 1; n <= 3; n++ {
		c.when(fmt.Sprintf("connection %d", n), func(c *collector) bool { return c.connections == n && len(c.log) > 10 })
		if n < 3 {
			c.reset()
		}
	}
	c.when("all routes", func(c *collector) bool { return maps.Equal(c.tables["received 10.57.0.12"], want) })
	st := s.Status()[0]
	if st.Connections != 3 || st.LastError == "" || st.Messages == 0 || st.Bytes == 0 {
		t.Errorf("%+v", st)
	}
	if got, lost := s.log.count("connected to a bmp station"), s.log.count("no connection to a bmp station"); got != 3 || lost != 2 {
		t.Errorf("%d lines of connections, %d of their ends", got, lost)
	}
}

// TestCollectorTalks: what a collector sends is discarded.
func TestCollectorTalks(t *testing.T) {
	from := newSpeaker()
	c := newCollector(t)
	s := start(t, from, c.at("one", Best))
	c.when("a connection", func(c *collector) bool { return len(c.log) > 1 })
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if _, err := conn.Write(bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 1000)); err != nil {
		t.Fatal(err)
	}
	from.up(sessionWith(t, peerA))
	from.announce(peerA, pfx("192.0.2.0/24"), 1)
	c.when("a route", func(c *collector) bool { return len(c.tables["best"]) == 1 })
	if st := s.Status()[0]; st.Connections != 1 {
		t.Errorf("%+v", st)
	}
}

// TestUnreachable: a collector that is not there costs nothing: the speaker is not
// watched, and the log has the reason once.
func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	from := newSpeaker()
	s := start(t, from, Settings{Name: "gone", Address: at.Addr(), Port: at.Port(), Monitor: []View{Best}})
	var first time.Time
	eventually(t, "several attempts", func() error {
		st := s.Status()[0]
		if st.LastError != "connect: connection refused" {
			return fmt.Errorf("%+v", st)
		}
		if first.IsZero() {
			first = st.ErrorAt
		}
		if st.ErrorAt.Equal(first) {
			return errNotYet
		}
		return nil
	})
	if now, ever := from.watching(); now+ever != 0 {
		t.Errorf("the speaker was watched %d times", ever)
	}
	if n := s.log.count("no connection to a bmp station"); n != 1 {
		t.Errorf("%d lines of the log", n)
	}
	now := time.Now()
	st := s.Status()[0]
	if p := st.Problem(now); p != "" {
		t.Errorf("a problem after moments: %s", p)
	}
	if p := st.Problem(now.Add(unreachableProblem)); !strings.Contains(p, "connection refused") || !strings.Contains(p, "gone") {
		t.Errorf("problem %q", p)
	}
}

// TestSet: a changed list ends the stations that left it or changed, with the reason of
// RFC 7854 section 4.5, and leaves the connections of others alone.
func TestSet(t *testing.T) {
	from := newSpeaker()
	stays, leaves, changes := newCollector(t), newCollector(t), newCollector(t)
	list := []Settings{stays.at("stays", Best), leaves.at("leaves", Best), changes.at("changes", Best)}
	s := start(t, from, list...)
	for _, c := range []*collector{stays, leaves, changes} {
		c.when("a connection", func(c *collector) bool { return len(c.log) > 1 })
	}
	last := func(c *collector, reason uint16) bool {
		if len(c.log) == 0 {
			return false
		}
		end, ok := c.log[len(c.log)-1].Body.(*codec.BMPTermination)
		return ok && end.Info[0].(*codec.BMPTermTLV16).Value == reason
	}
	changed := changes.at("changes", Best, Received)
	s.Set([]Settings{list[0], changed})
	leaves.when("its end for good", func(c *collector) bool { return last(c, closedForGood) })
	changes.when("another connection", func(c *collector) bool { return c.connections == 2 && len(c.log) > 1 })
	if got := s.Status(); len(got) != 2 || got[0].Connections != 1 || got[1].Name != "changes" {
		t.Errorf("%+v", got)
	}
	s.end()
	for _, c := range []*collector{stays, changes} {
		c.when("its end for now", func(c *collector) bool { return last(c, closedForNow) })
	}
	stays.when("one connection alone", func(c *collector) bool { return c.connections == 1 })
	if now, _ := from.watching(); now != 0 {
		t.Errorf("%d watchers after the end", now)
	}
}
