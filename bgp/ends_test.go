package bgp

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"onlink/bgp/gobgp"
)

// rawMessage is one BGP message.
func rawMessage(typ byte, body []byte) []byte {
	n := 19 + len(body)
	return joined(bytes.Repeat([]byte{0xff}, 16), []byte{byte(n >> 8), byte(n), typ}, body)
}

// rawOpen is an OPEN without capabilities.
func rawOpen(as uint16, hold byte, id string) []byte {
	return rawMessage(1, joined([]byte{4, byte(as >> 8), byte(as), 0, hold}, addr(id).AsSlice(), []byte{0}))
}

// serveRaw accepts connections at an address until the test ends, calls do with
// each, and closes it. taken returns how many there were.
func serveRaw(t *testing.T, at string, do func(net.Conn)) (taken func() int) {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", fmt.Sprintf("%s:%d", at, testPort))
	if err != nil {
		t.Fatal(err)
	}
	count := make(chan int, 1)
	count <- 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return // the test is over
			}
			do(c)
			c.Close() //nolint:gosec // nothing more is wanted of it
			count <- <-count + 1
		}
	}()
	t.Cleanup(func() {
		l.Close() //nolint:gosec // the test is over
		<-done
	})
	return func() int { n := <-count; count <- n; return n }
}

// answers sends the parts once our OPEN has arrived, and reads until the speaker
// closes.
func answers(parts ...[]byte) func(net.Conn) {
	return func(c net.Conn) {
		c.SetDeadline(time.Now().Add(5 * time.Second)) //nolint:errcheck,gosec // then it closes sooner
		if _, _, err := readMessage(c); err != nil {
			return
		}
		c.Write(joined(parts...)) //nolint:errcheck,gosec // the speaker may be gone
		for {
			if _, _, err := readMessage(c); err != nil {
				return
			}
		}
	}
}

// TestEndBeforeOpen: a session that never comes up has a reason, whatever the
// peer sends, and the log has it once and not at every attempt.
func TestEndBeforeOpen(t *testing.T) {
	needsPatches(t)
	cases := []struct {
		name string
		do   func(net.Conn)
		want string
	}{
		{"closes at once", func(net.Conn) {}, "connection closed by the peer before OPEN: is this node configured there, with this address?"},
		{"resets", func(c net.Conn) {
			c.(*net.TCPConn).SetLinger(0) //nolint:errcheck,gosec,forcetypeassert // of a TCP listener
		}, "connection closed by the peer before OPEN: is this node configured there, with this address?"},
		{"is not configured", answers(rawMessage(3, []byte{6, 5})), "received NOTIFICATION 6/5 cease, connection rejected: is this node configured there, with this address, and the only one that comes from it?"},
		{"has another AS for us", answers(rawMessage(3, []byte{2, 2})), "received NOTIFICATION 2/2 OPEN message error, bad peer AS: it expects another AS than 64512 from this node"},
		{"is shut down", answers(rawMessage(3, append([]byte{6, 2, 6}, "ticket"...))), "received NOTIFICATION 6/2 cease, administrative shutdown: ticket"},
		{"hard reset", answers(rawMessage(3, append([]byte{6, 9, 6, 2, 6}, "ticket"...))), "received NOTIFICATION 6/2 cease, administrative shutdown: ticket"},
		{"has another AS", answers(rawOpen(65009, 90, "127.81.0.9")), "sent NOTIFICATION 2/2 OPEN message error, bad peer AS: as number mismatch expected 64512, received 65009"},
		{"has our router ID", answers(rawOpen(64512, 90, "127.81.0.1")), "sent NOTIFICATION 2/3 OPEN message error, bad BGP identifier: bad BGP identifier 127.81.0.1"},
		{"has no router ID", answers(rawOpen(64512, 90, "0.0.0.0")), "sent NOTIFICATION 2/3 OPEN message error, bad BGP identifier: bad BGP identifier 0.0.0.0 (0.0.0.0)"},
		{"hold time of a second", answers(rawOpen(64512, 1, "127.81.0.9")), "sent NOTIFICATION 2/6 OPEN message error, unacceptable hold time: unacceptable hold time 1"},
		{"NOTIFICATION after OPEN", answers(rawOpen(64512, 90, "127.81.0.9"), rawMessage(3, []byte{2, 7})), "received NOTIFICATION 2/7 OPEN message error, unsupported capability: have both ends an address family in common?"},
		{"closes after OPEN", func(c net.Conn) {
			readMessage(c)                            //nolint:errcheck // what comes is of no interest
			c.Write(rawOpen(64512, 90, "127.81.0.9")) //nolint:errcheck,gosec // the speaker is there
			readMessage(c)                            //nolint:errcheck // its KEEPALIVE
		}, "connection closed by the peer after OPEN, before KEEPALIVE: it does not accept this node's OPEN (AS 64512, router ID 127.81.0.1)"},
	}
	var log logText
	c := testConfig(t, "127.81.0.1")
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	x := startNodes(t, c)[0]
	var peers []Peer
	var taken []func() int
	for i, tt := range cases {
		at := fmt.Sprintf("127.81.1.%d", i+1)
		taken = append(taken, serveRaw(t, at, tt.do))
		p := from(to(at, IBGP), "127.81.0.1")
		p.ConnectRetry = 2 * time.Second
		peers = append(peers, p)
	}
	x.setPeers(peers)
	for i, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			eventually(t, func() string {
				got := x.peer(peers[i].Address)
				if n := taken[i](); n < 2 || got.LastError != tt.want || got.ErrorAt.IsZero() {
					return fmt.Sprintf("%d attempts, last error %q, want %q", n, got.LastError, tt.want)
				}
				return ""
			})
			if n := log.count("peer=" + peers[i].Address.String() + " local"); n != 1 {
				t.Errorf("logged %d times after %d attempts, want once:\n%s", n, taken[i](), log.lines("peer="+peers[i].Address.String()))
			}
		})
	}
}

// lines returns the lines that a text is in.
func (l *logText) lines(part string) (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, part) {
			list = append(list, line)
		}
	}
	return list
}

func (l *logText) count(part string) int { return len(l.lines(part)) }

// TestRefusedStranger: a connection from an address that is not configured is
// refused with a reason at both ends: here the address and AS, there that it is
// not configured.
func TestRefusedStranger(t *testing.T) {
	needsPatches(t)
	var log logText
	c, other := testConfig(t, "127.82.0.1"), testConfig(t, "127.82.0.2")
	c.Log, other.ASN = slog.New(slog.NewTextHandler(&log, nil)), 65009
	n := startNodes(t, c, other)
	n[0].setPeers(nil)
	p := from(to("127.82.0.1", EBGP), "127.82.0.2")
	p.ASN, p.ConnectRetry = 64512, 2*time.Second
	n[1].setPeers([]Peer{p})
	const here = "refused: no peer and no client range has this address (AS 65009, router ID 127.82.0.2)"
	eventually(t, func() string {
		got := n[0].peer(n[1].addr)
		if !got.Stranger || !got.Speaks || !got.Gone || got.ASN != 65009 || got.LastError != here || got.ErrorAt.IsZero() {
			return fmt.Sprintf("here: %+v, want %q", got, here)
		}
		return ""
	})
	const there = "received NOTIFICATION 6/5 cease, connection rejected: is this node configured there"
	first := n[0].peer(n[1].addr).ErrorAt
	eventually(t, func() string {
		if got := n[1].peer(n[0].addr).LastError; !strings.HasPrefix(got, there) {
			return fmt.Sprintf("there: last error %q, want %q", got, there)
		}
		if n[0].peer(n[1].addr).ErrorAt.Equal(first) {
			return "no second attempt"
		}
		return ""
	})
	if got := log.count("connection refused"); got != 1 {
		t.Errorf("logged %d times, want once", got)
	}

	// Once it is configured nothing is left of it.
	q := from(to("127.82.0.2", EBGP), "127.82.0.1")
	q.ASN = 65009
	n[0].setPeers([]Peer{q})
	n[0].waitUp(n[1].addr)
	if list := n[0].Peers(); len(list) != 1 || list[0].Stranger || list[0].LastError != "" {
		t.Errorf("peers %+v, want the one that is configured, without an error", list)
	}
}

// TestStrangersAreBounded: connections from many addresses take the memory of few,
// and the newest are kept.
func TestStrangersAreBounded(t *testing.T) {
	l := newLedger()
	now := time.Unix(1000, 0)
	l.now = func() time.Time { return now }
	a := addr("10.1.0.0")
	for range 10 * refusedKept {
		a, now = a.Next(), now.Add(time.Millisecond)
		l.stranger(gobgp.Event{Peer: a})
	}
	if n := len(l.strangers); n != refusedKept || l.strangers[a] == nil {
		t.Errorf("%d strangers kept, the newest %t; want %d and the newest", n, l.strangers[a] != nil, refusedKept)
	}
}

// openRaw connects, sends an OPEN and returns the speaker's answer.
func openRaw(t *testing.T, local, remote, id string, as uint16) (*rawPeer, string) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: patience}
	c, err := d.DialContext(t.Context(), "tcp", fmt.Sprintf("%s:%d", remote, testPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // the test is over
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	p := &rawPeer{t: t, conn: c}
	if _, err := p.conn.Write(joined(rawOpen(as, 90, id), rawMessage(4, nil))); err != nil {
		t.Fatal(err)
	}
	return p, p.answer()
}

// TestSeveralBehindOneAddress: a second speaker with the address of one that has a
// session is distinguished from a second connection of the same.
func TestSeveralBehindOneAddress(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.83.0.1"))[0]
	x.setPeers(nil, clientsOf("127.83.0.0/24"))
	at := addr("127.83.0.2")
	if _, got := openRaw(t, "127.83.0.2", "127.83.0.1", "127.83.0.2", 64512); got != "used" {
		t.Fatalf("the first speaker: %s", got)
	}
	x.waitRaw(at)
	if _, got := openRaw(t, "127.83.0.2", "127.83.0.1", "127.83.0.2", 64512); got != "6/7" {
		t.Errorf("a second connection of the same speaker ended with %s, want 6/7 connection collision", got)
	}
	if got := x.peer(at); got.Trouble != "" {
		t.Errorf("one speaker with two connections: %q", got.Trouble)
	}
	if _, got := openRaw(t, "127.83.0.2", "127.83.0.1", "127.83.0.3", 64512); got != "6/5" {
		t.Errorf("another speaker ended with %s, want 6/5 connection rejected", got)
	}
	const want = "refused another BGP speaker (AS 64512, router ID 127.83.0.3) with the address of 127.83.0.2: several nodes behind one address, or two daemons on one"
	eventually(t, func() string {
		if got := x.peer(at); got.State != established || got.Trouble != want || got.LastError != want {
			return fmt.Sprintf("%s, trouble %q, last error %q", got.State, got.Trouble, got.LastError)
		}
		return ""
	})
}

// waitRaw waits for a session that sends no End-of-RIB.
func (n *node) waitRaw(a netip.Addr) {
	n.t.Helper()
	eventually(n.t, func() string { return notUp(n.peer(a)) })
}

// TestByTurns: sessions of two speakers that take each other's place by turns
// are a problem, one that got another router ID is none.
func TestByTurns(t *testing.T) {
	l := newLedger()
	peer := addr("10.0.0.2")
	up := func(id string) {
		l.peerChange(peerChange{addr: peer, state: established, carries: carried{id: addr(id), families: []Family{IPv4}}})
		l.peerChange(peerChange{addr: peer, state: idle})
	}
	up("10.0.0.2")
	up("10.0.0.3")
	up("10.0.0.3")
	if r := l.get(peer); r.trouble(time.Now()) != "" {
		t.Errorf("after a new router ID: %q", r.trouble(time.Now()))
	}
	up("10.0.0.2")
	if r := l.get(peer); !strings.Contains(r.trouble(time.Now()), "router IDs 10.0.0.3 and 10.0.0.2") {
		t.Errorf("by turns: %q", r.trouble(time.Now()))
	}
}

// TestOneRouterIDTwice: two clients with one router ID are a problem at the
// reflector, which names both.
func TestOneRouterIDTwice(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.84.0.1"))[0]
	x.setPeers(nil, clientsOf("127.84.0.0/24"))
	ids := map[string]string{"127.84.0.2": "127.84.9.9", "127.84.0.3": "127.84.9.9", "127.84.0.4": "127.84.0.4"}
	for at, id := range ids {
		if _, got := openRaw(t, at, "127.84.0.1", id, 64512); got != "used" {
			t.Fatalf("%s: %s", at, got)
		}
	}
	for at, other := range map[string]string{"127.84.0.2": "127.84.0.3", "127.84.0.3": "127.84.0.2", "127.84.0.4": ""} {
		eventually(t, func() string {
			want := ""
			if other != "" {
				want = "router ID 127.84.9.9 is also that of the peer " + other + ": each ignores what the other announces; give every node its own bgp.routerID"
			}
			if got := x.peer(addr(at)); got.State != established || got.Trouble != want {
				return fmt.Sprintf("%s: %s, trouble %q, want %q", at, got.State, got.Trouble, want)
			}
			return ""
		})
	}
}

// TestNoFamilyInCommon: a session that carries nothing is a problem.
func TestNoFamilyInCommon(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.87.0.1"))[0]
	peers := []Peer{to("127.87.0.2", IBGP), to("127.87.0.3", IBGP)}
	for i := range peers {
		peers[i].Passive, peers[i].Families = true, []Family{IPv6}
	}
	x.setPeers(peers)
	openRaw(t, "127.87.0.2", "127.87.0.1", "127.87.0.2", 64512) // without capabilities: IPv4
	dialRaw(t, "127.87.0.3", "127.87.0.1")                      // both
	for at, want := range map[string]string{"127.87.0.2": "no address family in common with the peer: nothing is exchanged", "127.87.0.3": ""} {
		x.waitRaw(addr(at))
		if got := x.peer(addr(at)).Trouble; got != want {
			t.Errorf("%s: trouble %q, want %q", at, got, want)
		}
	}
}

// TestOwnOriginatorElsewhere: a reflected path that carries our router ID and
// is not ours is a problem; our own that comes back is none.
func TestOwnOriginatorElsewhere(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.85.0.1"))[0]
	rr := to("127.85.0.2", IBGP)
	rr.Passive = true
	x.setPeers([]Peer{rr})
	p, got := openRaw(t, "127.85.0.2", "127.85.0.1", "127.85.0.2", 64512)
	if got != "used" {
		t.Fatal(got)
	}
	reflected := func(hop string) []byte {
		return joined(attrOrigin, whole(0x40, 2), whole(0x40, 3, addr(hop).AsSlice()...), attrLocalPref,
			whole(0x80, 9, 127, 85, 0, 1), whole(0x80, 10, 127, 85, 0, 2))
	}
	p.update(reflected("127.85.0.1"), []byte{26, 10, 244, 1, 0}) // ours, from a second reflector
	p.update(reflected("127.85.0.9"), []byte{26, 10, 244, 2, 0})
	const want = "router ID 127.85.0.1 of this node is also that of 127.85.0.9, which announces 10.244.2.0/26: neither uses what the other announces; give every node its own bgp.routerID"
	eventually(t, func() string {
		if got := x.peer(rr.Address); got.Trouble != want || got.State != established {
			return fmt.Sprintf("%s, trouble %q, want %q", got.State, got.Trouble, want)
		}
		return ""
	})
	p.send(2, []byte{0, 5, 26, 10, 244, 2, 0, 0, 0}) // withdrawn
	eventually(t, func() string {
		if got := x.peer(rr.Address).Trouble; got != "" {
			return fmt.Sprintf("withdrawn, and still %q", got)
		}
		return ""
	})
}

// TestRefusedClient: a client of a reflector that hung up, and one that was
// refused, stay visible with the reason.
func TestRefusedClient(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.86.0.1"))[0]
	x.setPeers(nil, clientsOf("127.86.0.0/24"))
	if _, got := openRaw(t, "127.86.0.2", "127.86.0.1", "127.86.0.2", 65009); got != "2/2" {
		t.Errorf("a client of another AS: %s", got)
	}
	p, got := openRaw(t, "127.86.0.3", "127.86.0.1", "127.86.0.3", 64512)
	if got != "used" {
		t.Fatal(got)
	}
	x.waitRaw(addr("127.86.0.3"))
	p.send(3, append([]byte{6, 2, 6}, "ticket"...))
	for at, want := range map[string]string{
		"127.86.0.2": "sent NOTIFICATION 2/2 OPEN message error, bad peer AS: as number mismatch expected 64512, received 65009",
		"127.86.0.3": "received NOTIFICATION 6/2 cease, administrative shutdown: ticket",
	} {
		eventually(t, func() string {
			got := x.peer(addr(at))
			if !got.Gone || !got.Dynamic || got.State != idle || got.Name != "clients-127.86.0.0/24" || got.Role != Client || got.LastError != want {
				return fmt.Sprintf("%s: %+v, want %q", at, got, want)
			}
			return ""
		})
	}
	if got, want := slices.IndexFunc(x.Peers(), func(p PeerStatus) bool { return !p.Gone }), -1; got != want {
		t.Errorf("a session is still there: %+v", x.Peers())
	}
}

// TestShortSession: the reason of a session that ends before the event of its
// coming up has arrived keeps its detail; a reason of before does not stay.
func TestShortSession(t *testing.T) {
	l := newLedger()
	peer := addr("10.0.0.2")
	up := peerChange{addr: peer, state: established, carries: carried{families: []Family{IPv4}}}
	const short, long = "sent NOTIFICATION 1/3 message header error, bad message type", ": unknown message type 77"
	l.fault(peer, (*Faults).reset, "unknown message type 77")
	l.sent(peer, notificationOf(1, 3, nil), failure{ends: true})
	l.peerChange(up)
	l.ended(peer, short, false)
	l.peerChange(peerChange{addr: peer, state: idle})
	if r := l.get(peer); r.lastError != short+long || r.lost != short+long {
		t.Errorf("last error %q, lost by %q, want %q", r.lastError, r.lost, short+long)
	}
	l.peerChange(up)
	if r := l.get(peer); r.lost != "" {
		t.Errorf("lost by %q after the next session came up", r.lost)
	}
	l.ended(peer, "the peer closed the connection", false)
	if r := l.get(peer); r.lost != "the peer closed the connection" {
		t.Errorf("lost by %q, want the end of the newest session", r.lost)
	}
}

// TestErrorBesideSession: why the last session ended is kept, with its time,
// beside the one that is up, and an attempt that fails later does not hide it.
func TestErrorBesideSession(t *testing.T) {
	l := newLedger()
	now := time.Unix(1000, 0)
	l.now = func() time.Time { return now }
	peer := addr("10.0.0.2")
	up := peerChange{addr: peer, state: established, carries: carried{families: []Family{IPv4}}}
	l.peerChange(up)
	now = now.Add(time.Minute)
	l.fails(peer, failure{text: "received NOTIFICATION 6/2 cease, administrative shutdown: ticket", ends: true})
	l.ended(peer, "the peer closed the connection", false) // a less precise reason
	l.peerChange(peerChange{addr: peer, state: idle})
	lost := now
	now = now.Add(time.Minute)
	l.peerChange(peerChange{addr: peer, state: "Active"})
	l.failed(peer, "connect: refused")
	r := l.get(peer)
	if got, want := r.reason(), "connect: refused (the session ended before: received NOTIFICATION 6/2 cease, administrative shutdown: ticket)"; got != want {
		t.Errorf("reason %q, want %q", got, want)
	}
	if !r.since.Equal(lost) {
		t.Errorf("down since %v, want %v", r.since, lost)
	}
	failedAt := now
	now = now.Add(time.Minute)
	l.peerChange(up)
	if r := l.get(peer); r.reason() != "connect: refused" || !r.errorAt.Equal(failedAt) || !r.since.Equal(now) {
		t.Errorf("beside the new session: %q of %v, up since %v", r.reason(), r.errorAt, r.since)
	}

	// One of two connections that cross is no failure once the other is up.
	l.failed(peer, "received NOTIFICATION 6/7 cease, connection collision")
	l.collided(peer)
	l.peerChange(peerChange{addr: peer, state: "Active"})
	l.peerChange(up)
	if r := l.get(peer); r.lastError != "" {
		t.Errorf("after a collision: %q", r.lastError)
	}
}
