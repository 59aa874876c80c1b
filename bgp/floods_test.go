package bgp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"onlink/bgp/gobgp"
)

// witnessed is a speaker that is to be flooded, with a good peer whose session
// and route must not suffer.
type witnessed struct {
	*node
	good  *node
	since time.Time
	route string
}

// startWitnessed starts both at addresses .1 and .2 of a /16 of loopback
// addresses, all of which are clients.
func startWitnessed(t *testing.T, net16 string) *witnessed {
	t.Helper()
	self, other := net16+".0.1", net16+".0.2"
	n := startNodes(t, testConfig(t, self), testConfig(t, other))
	w := &witnessed{node: n[0], good: n[1], route: "10.244.2.0/26 via " + other}
	w.good.originate("10.244.2.0/26")
	clients := clientsOf(net16 + ".0.0/16")
	clients.Families = []Family{IPv4, IPv6}
	w.setPeers(nil, clients)
	w.good.setPeers([]Peer{from(to(self, IBGP), other)})
	w.waitRoutes(w.route)
	w.waitUp(w.good.addr) // the route may be here before the news of the session
	w.since = w.peer(w.good.addr).Since
	return w
}

// unharmed requires that the good peer is unchanged, and that its updates are
// still accepted.
func (w *witnessed) unharmed() {
	w.t.Helper()
	if got := w.peer(w.good.addr); got.State != established || got.Flaps != 0 || !got.Since.Equal(w.since) {
		w.t.Errorf("the good session suffered: %+v", got)
	}
	w.good.originate("10.244.2.0/26", "10.244.3.0/26")
	eventually(w.t, func() string {
		if !has(w.node, prefix("10.244.3.0/26"), w.good.addr.String()) {
			return "news of the good peer does not arrive"
		}
		return ""
	})
	for _, p := range w.lost() {
		if p == prefix("10.244.2.0/26") {
			w.t.Error("the good peer's route was lost meanwhile")
		}
	}
}

// only requires that no peer but the good one is left, and that the goroutines of
// the others have ended.
func (w *witnessed) only(goroutines int) {
	w.t.Helper()
	eventually(w.t, func() string {
		if n := w.sessions(); n != 1 {
			return fmt.Sprintf("%d peers are known, want only the good one", n)
		}
		if n := runtime.NumGoroutine(); n > goroutines+50 {
			return fmt.Sprintf("%d goroutines, %d before", n, goroutines)
		}
		return ""
	})
}

// openFds counts the process's open files.
func openFds(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestConnectionFlood: thousands of connections, from strangers and from the
// address of a peer whose session is up, cost nothing that stays.
func TestConnectionFlood(t *testing.T) {
	needsPatches(t)
	w := startWitnessed(t, "127.46")
	before, files := runtime.NumGoroutine(), openFds(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 400 {
				local := "127.46.0.2" // of the good peer
				if i%2 == 0 {
					local = fmt.Sprintf("127.99.%d.%d", i, 1+j%250)
				}
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: patience}
				c, err := d.DialContext(t.Context(), "tcp", "127.46.0.1:1790")
				if err != nil {
					t.Errorf("connection %d from %s: %v", j, local, err)
					return
				}
				if i < 4 { // the rest close without a message
					_, _ = c.Write([]byte("flood")) // it may be closed already
				}
				_ = c.Close() // the same
			}
		})
	}
	wg.Wait()
	w.unharmed()
	w.only(before)
	eventually(t, func() string {
		if n := openFds(t); n > files+50 {
			return fmt.Sprintf("%d open files, %d before", n, files)
		}
		return ""
	})
}

// TestHalfOpenLimit: connections without a message from every address of a dynamic
// prefix get 1,024 sessions half open, and the good peers are unharmed.
func TestHalfOpenLimit(t *testing.T) {
	needsPatches(t)
	w := startWitnessed(t, "127.47")
	before := runtime.NumGoroutine()
	const tries, limit = 1400, 1024
	// The engine ends a half-open session after this long, and admits another: only
	// before that are the numbers exact.
	const halfOpen = 20 * time.Second
	began := time.Now()
	conns := make([]net.Conn, 0, tries)
	for i := range tries {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 47, byte(1+i/200), byte(1+i%200))}, Timeout: patience}
		c, err := d.DialContext(t.Context(), "tcp", "127.47.0.1:1790")
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		conns = append(conns, c)
		if n := len(conns); n%100 == 0 {
			if known := len(w.Peers()); known > limit+1 && time.Since(began) < halfOpen {
				t.Fatalf("%d peers after %d connections, want at most %d", known, n, limit+1)
			}
		}
	}
	refused := 0
	for _, c := range conns[limit:] {
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			refused++
		}
	}
	if refused == 0 && time.Since(began) < halfOpen {
		t.Error("no connection was refused")
	}
	w.unharmed()
	for _, c := range conns {
		_ = c.Close() // some are
	}
	w.only(before)
	dialRaw(t, "127.47.0.9", "127.47.0.1") // there is room again
}

// TestHalfOpen: the connection of a peer that does not finish the handshake is
// closed, whatever hold time it offers.
func TestHalfOpen(t *testing.T) {
	needsPatches(t)
	startWitnessed(t, "127.48")
	for i, attack := range []struct {
		name string
		send func(*rawPeer)
	}{
		{"silent", func(*rawPeer) {}},
		{"half a header", func(p *rawPeer) { _, _ = p.conn.Write(slices.Repeat([]byte{0xff}, 11)) }},
		{"an OPEN and no KEEPALIVE", func(p *rawPeer) { p.send(1, openBody(nil)) }},
		{"an OPEN without a hold time and no KEEPALIVE", func(p *rawPeer) {
			p.send(1, openBody(func(b []byte) []byte { b[3], b[4] = 0, 0; return b }))
		}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			t.Parallel()
			p := connectRaw(t, fmt.Sprintf("127.48.1.%d", 1+i), "127.48.0.1")
			defer p.conn.Close()
			attack.send(p)
			if got := p.closing(); got != "4/0" {
				t.Errorf("ended with %q, want 4/0", got)
			}
		})
	}
}

// TestSlowBytes: a peer that sends its messages byte by byte is held to the
// hold time like one that sends none.
func TestSlowBytes(t *testing.T) {
	needsPatches(t)
	w := startWitnessed(t, "127.49")
	p := connectRaw(t, "127.49.1.1", "127.49.0.1")
	defer p.conn.Close()
	p.send(1, openBody(func(b []byte) []byte { b[3], b[4] = 0, 3; return b }))
	p.send(4, nil)
	eventually(t, func() string { return notUp(w.peer(addr("127.49.1.1"))) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for range 18 { // of 19: never a whole header
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if _, err := p.conn.Write([]byte{0xff}); err != nil {
				return // the session is over
			}
		}
	}()
	if got := p.closing(); got != "4/0" {
		t.Errorf("ended with %q, want 4/0", got)
	}
	w.unharmed()
}

func notUp(p PeerStatus) string {
	if p.State == established {
		return ""
	}
	return fmt.Sprintf("%s is %s: %s", p.Address, p.State, p.LastError)
}

// TestRefreshFlood: ROUTE-REFRESH messages in a row are answered together.
func TestRefreshFlood(t *testing.T) {
	needsPatches(t)
	w := startWitnessed(t, "127.50")
	p := dialRaw(t, "127.50.1.1", "127.50.0.1", 2, 0) // with the capability
	told := make(chan time.Time, 1024)
	go func() {
		defer close(told)
		for {
			typ, body, err := readMessage(p.conn)
			if err != nil {
				return
			}
			if typ == 2 && strings.HasSuffix(string(body), string([]byte{26, 10, 244, 2, 0})) {
				told <- time.Now()
			}
		}
	}()
	<-told // the first dump
	start := time.Now()
	for i := range 500 {
		p.send(5, []byte{0, 1, 0, 1})
		p.send(5, []byte{0, 25, byte(i), 70}) // a family that was not negotiated
	}
	var last time.Time
	for range 2 { // the first at once, the others together
		select {
		case last = <-told:
		case <-time.After(patience):
			t.Fatal("a ROUTE-REFRESH was not answered")
		}
	}
	const pause = 5 * time.Second
	if waited := last.Sub(start); waited < pause/2 {
		t.Errorf("the second answer came after %s: the requests were not gathered", waited)
	}
	w.unharmed()
	if err := p.conn.Close(); err != nil {
		t.Fatal(err)
	}
	answers := 2
	for range told {
		answers++
	}
	if most := 2 + int(time.Since(start)/pause); answers > most {
		t.Errorf("%d answers to 500 requests in %s, want at most %d", answers, time.Since(start), most)
	}
}

// manyRoutes are UPDATEs with count /32 prefixes of 10.244.128.0/17, each with
// 1.4 kB of attributes of its own, so that they cannot share a message.
func manyRoutes(local net.IP, first, count int) []byte {
	var out []byte
	for i := first; i < first+count; i++ {
		attrs := joined(attrOrigin, attrASPath, whole(0x40, 3, local.To4()...), attrLocalPref,
			whole(0x80, 4, binary.BigEndian.AppendUint32(nil, uint32(i))...),
			whole(0xd0, 8, slices.Repeat(binary.BigEndian.AppendUint32(nil, uint32(i)), 350)...))
		body := append(binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attrs))), attrs...)
		body = append(body, 32, 10, 244, byte(128+i>>8&127), byte(i))
		out = append(out, slices.Repeat([]byte{0xff}, 16)...)
		out = append(binary.BigEndian.AppendUint16(out, uint16(19+len(body))), 2)
		out = append(out, body...)
	}
	return out
}

// TestSilentReader: a peer that reads nothing costs a bounded amount of memory
// and its session ends; one that reads receives everything meanwhile.
func TestSilentReader(t *testing.T) {
	needsPatches(t)
	w := startWitnessed(t, "127.51")
	p := connectRaw(t, "127.51.1.1", "127.51.0.1")
	defer p.conn.Close()
	if err := p.conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	p.send(1, openBody(func(b []byte) []byte { b[3], b[4] = 0, 9; return b }))
	p.send(4, nil)
	eventually(t, func() string { return notUp(w.peer(addr("127.51.1.1"))) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go p.keepalives(ctx, time.Second)
	feeder := dialRaw(t, "127.51.1.2", "127.51.0.1")
	go drainConn(feeder.conn)
	// A starved machine with the race detector takes minutes for them.
	if err := feeder.conn.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	const routes = 5 << 10 // 7.5 MB, more than the kernel keeps for a connection
	for i := 0; i < routes; i += 256 {
		if _, err := feeder.conn.Write(manyRoutes(net.IPv4(127, 51, 1, 2), i, 256)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() string {
		if n := len(w.good.routes()); n < routes {
			return fmt.Sprintf("the good peer has heard %d of %d routes", n, routes)
		}
		return ""
	})
	eventually(t, func() string {
		if r := w.ledger.get(addr("127.51.1.1")); !strings.Contains(r.lastError, "send hold timer expired") {
			return fmt.Sprintf("the peer that reads nothing is %s: %q", r.state, r.lastError)
		}
		return ""
	})
	w.unharmed()
}

// keepalives sends a KEEPALIVE now and then as long as the session lives.
func (p *rawPeer) keepalives(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	msg := append(slices.Repeat([]byte{0xff}, 16), 0, 19, 4)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := p.conn.Write(msg); err != nil {
			return // the session is over
		}
	}
}

func drainConn(c net.Conn) {
	b := make([]byte, 64<<10)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

// TestNoHoldTime: routes are announced to an old peer without a hold time.
func TestNoHoldTime(t *testing.T) {
	needsPatches(t)
	startWitnessed(t, "127.52")
	p := connectRaw(t, "127.52.1.1", "127.52.0.1")
	defer p.conn.Close()
	p.send(1, []byte{4, 0xfc, 0, 0, 0, 127, 52, 1, 1, 0}) // two-octet AS, hold time 0
	p.send(4, nil)
	for {
		typ, body, err := readMessage(p.conn)
		if err != nil || typ == 3 {
			t.Fatalf("the session ended: %v %v", body, err)
		}
		if typ == 2 && len(body) > 4 {
			return
		}
	}
}

// TestFastPeer: while the engine is busy, it stops reading from a peer that sends
// without end, and the hold timer does not expire when the peer goes on.
func TestFastPeer(t *testing.T) {
	needsPatches(t)
	w := startWitnessed(t, "127.53")
	p := connectRaw(t, "127.53.1.1", "127.53.0.1")
	defer p.conn.Close()
	p.send(1, openBody(func(b []byte) []byte { b[3], b[4] = 0, 3; return b }))
	p.send(4, nil)
	eventually(t, func() string { return notUp(w.peer(addr("127.53.1.1"))) })
	go drainConn(p.conn)

	// The engine blocks in the callback for the next best path.
	stuck, release := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(stuck); <-release })
	defer sync.OnceFunc(func() {
		select {
		case <-release:
		default:
			close(release)
		}
	})()
	defer w.engine.WatchSets(func(p netip.Prefix, _ []gobgp.Path) {
		if p == prefix("10.244.99.0/26") {
			once()
		}
	}, func() {})()
	p.send(2, updateBody(0, nil, hostileNLRI))
	<-stuck

	const much = 64 << 20
	sent, message := 0, manyRoutes(net.IPv4(127, 53, 1, 1), 0, 1)
	chunk := slices.Repeat(message, 64)
	for sent < much {
		if err := p.conn.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := p.conn.Write(chunk)
		sent += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break // longer than the hold time
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", sent, err)
		}
	}
	if sent >= much {
		t.Errorf("the speaker took %d bytes that it could not deal with", sent)
	}
	close(release)
	if err := p.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if cut := sent % len(message); cut > 0 { // to the end of the message
		if _, err := p.conn.Write(message[cut:]); err != nil {
			t.Fatal(err)
		}
	}
	p.send(2, updateBody(0, nil, []byte{26, 10, 244, 100, 0}))
	eventually(t, func() string {
		if !has(w.node, prefix("10.244.100.0/26"), "127.53.1.1") {
			return "what the fast peer said last is not there: " + w.ledger.get(addr("127.53.1.1")).lastError
		}
		return ""
	})
	if r := w.ledger.get(addr("127.53.1.1")); r.flaps != 0 {
		t.Errorf("the fast peer's session was lost: %s", r.lastError)
	}
	w.unharmed()
}
