package bgp

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestGoneClient: a client that is gone stays listed with the reason, the time and its
// routes, until it is forgotten; while it is there it cannot be.
func TestGoneClient(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.106.0.1"))[0]
	x.setPeers(nil, clientsOf("127.106.0.0/24"))
	at := addr("127.106.0.2")
	p, got := openRaw(t, at.String(), "127.106.0.1", at.String(), 64512)
	if got != "used" {
		t.Fatal(got)
	}
	p.update(joined(attrOrigin, attrASPath, whole(0x40, 3, at.AsSlice()...), attrLocalPref), []byte{26, 10, 244, 2, 0, 26, 10, 244, 1, 0, 16, 192, 168})
	eventually(t, func() string {
		if x.peer(at).Received != 3 {
			return "the routes are not there"
		}
		return ""
	})
	o := NewOperator(x.Speaker)
	if err := o.Forget(t.Context(), at); err == nil {
		t.Error("a peer with a session was forgotten")
	}
	began := time.Now()
	p.send(3, []byte{6, 3})
	eventually(t, func() string {
		got := x.peer(at)
		want := Loss{Received: 3, Accepted: 2, Prefixes: []netip.Prefix{prefix("10.244.1.0/26"), prefix("10.244.2.0/26")}}
		if !got.Gone || !got.Seen || got.Lost.Received != want.Received || got.Lost.Accepted != want.Accepted || !slices.Equal(got.Lost.Prefixes, want.Prefixes) {
			return fmt.Sprintf("%+v, want it gone with %+v", got, want)
		}
		if got.LastError != "received NOTIFICATION 6/3 cease, peer de-configured" || got.Since.Before(began.Add(-time.Second)) {
			return fmt.Sprintf("gone since %s for %q", got.Since, got.LastError)
		}
		return ""
	})
	if err := o.Forget(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if list := x.Peers(); len(list) != 0 {
		t.Errorf("after forget: %+v", list)
	}
	if err := o.Forget(t.Context(), at); err == nil {
		t.Error("a peer that is not listed was forgotten")
	}
}

// TestGoneIsBounded: what is kept of clients that are gone has an age and a number; the
// newest stay, and so does one that is up or configured.
func TestGoneIsBounded(t *testing.T) {
	l := newLedger()
	now := time.Unix(10_000_000, 0)
	l.now = func() time.Time { return now }
	be := func(a netip.Addr, up bool) {
		l.peerChange(peerChange{addr: a, state: established, carries: carried{families: []Family{IPv4}}})
		if !up {
			l.peerChange(peerChange{addr: a, state: idle})
		}
	}
	old, kept, live := addr("10.0.0.1"), addr("10.0.0.2"), addr("10.0.0.3")
	be(old, false)
	be(kept, false)
	be(live, true)
	now = now.Add(goneMemory + time.Minute)
	a := addr("10.1.0.0")
	first := a
	for range goneKept + 10 {
		be(a, false)
		now = now.Add(time.Second)
		a = a.Next()
	}
	l.forgetGone(now, func(a netip.Addr) bool { return a == kept })
	if l.peers[old] != nil || l.peers[kept] == nil || l.peers[live] == nil {
		t.Error("the old one is kept, or one that is configured or up is not")
	}
	if n := len(l.peers); n != goneKept+2 || l.peers[first] != nil || l.peers[a.Prev()] == nil {
		t.Errorf("%d records, want the newest %d and two", n, goneKept)
	}
	in := func(netip.Addr) (Dynamic, bool) { return Dynamic{Name: "clients"}, true }
	if list := l.absent(now, map[netip.Addr]bool{kept: true}, in); len(list) != goneKept || list[0].Address.Less(list[1].Address) {
		t.Errorf("%d listed, want %d, the newest first", len(list), goneKept)
	}
}

// TestSessionLines: every session that comes up or ends is one line with its name, AS,
// reason, duration, routes and the next step; and so are the first routes.
func TestSessionLines(t *testing.T) {
	needsPatches(t)
	var log logText
	c := testConfig(t, "127.107.0.1")
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	n := startNodes(t, c, testConfig(t, "127.107.0.2"))
	n[0].setPeers(nil, clientsOf("127.107.0.0/24"))
	n[1].originate("10.244.1.0/26", "10.244.2.0/26")
	n[1].setPeers([]Peer{from(to("127.107.0.1", IBGP), "127.107.0.2")})
	n[0].waitUp(n[1].addr)
	line := func(event string, parts ...string) {
		t.Helper()
		eventually(t, func() string {
			lines := log.lines(`msg="` + event + `"`)
			if len(lines) != 1 {
				return fmt.Sprintf("%d lines %q, want one: %q", len(lines), event, lines)
			}
			for _, part := range parts {
				if !strings.Contains(lines[0], part) {
					return fmt.Sprintf("%q has no %q", lines[0], part)
				}
			}
			return ""
		})
	}
	line("session up", "peer=clients-127.107.0.0/24", "address=127.107.0.2", "asn=64512", "role=client", "router_id=127.107.0.2", "families=ipv4", `next="receives the peer's routes"`)
	line("first routes received", "address=127.107.0.2", "received=2", "routes_gained=2")
	if err := n[1].Shutdown(t.Context(), "maintenance"); err != nil {
		t.Fatal(err)
	}
	line("session down", "peer=clients-127.107.0.0/24", "asn=64512", `reason="received NOTIFICATION 6/2 cease, administrative shutdown: maintenance"`, "up_for=", "routes_", `next="waits for the peer to connect"`)
}

// TestKeptRoutes: the line of a session that a peer with graceful restart closes says
// that its routes are kept, and for how long.
func TestKeptRoutes(t *testing.T) {
	needsPatches(t)
	var log logText
	c := testConfig(t, "127.108.0.1")
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	x := startNodes(t, c)[0]
	x.setPeers(nil, clientsOf("127.108.0.0/24"))
	// graceful restart, 60 s, IPv4 with the F bit
	p := dialRaw(t, "127.108.0.2", "127.108.0.1", 64, 6, 0, 60, 0, 1, 1, 0x80)
	p.update(joined(attrOrigin, attrASPath, whole(0x40, 3, 127, 108, 0, 2), attrLocalPref), []byte{26, 10, 244, 1, 0})
	p.send(2, []byte{0, 0, 0, 0})
	x.waitUp(addr("127.108.0.2"))
	x.waitRoutes("10.244.1.0/26 via 127.108.0.2")
	if err := p.conn.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		lines := log.lines("session down")
		if len(lines) != 1 {
			return fmt.Sprintf("%d lines: %q", len(lines), lines)
		}
		for _, part := range []string{"routes_kept=1", "the peer closed the connection without a NOTIFICATION", "its routes are kept for its restart, 60s at most"} {
			if !strings.Contains(lines[0], part) {
				return fmt.Sprintf("%q has no %q", lines[0], part)
			}
		}
		return ""
	})
}

// TestMD5Drops: the counters of the kernel are read by their names, and each explains the
// sessions that are down and that it can concern, for a while.
func TestMD5Drops(t *testing.T) {
	text, err := os.ReadFile(netstatFile)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "TCPMD5Failure") {
		t.Errorf("this kernel's %s has no TCPMD5Failure", netstatFile)
	}
	const form = "TcpExt: SyncookiesSent TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure Last\nTcpExt: 7 %d %d %d 9\nIpExt: InNoRoutes\nIpExt: 5\n"
	if got := parseMD5Drops(fmt.Sprintf(form, 1, 2, 3)); got != (md5Drops{1, 2, 3}) {
		t.Errorf("read %+v", got)
	}
	if got := parseMD5Drops("TcpExt: A\nTcpExt: 1\n"); got != (md5Drops{}) {
		t.Errorf("read %+v from a kernel without them", got)
	}
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		name     string
		grows    md5Drops
		password bool
		want     string
	}{
		{"another key", md5Drops{wrong: 1}, true, "TCPMD5Failure"},
		{"no key there", md5Drops{missing: 1}, true, "TCPMD5NotFound"},
		{"no key here", md5Drops{unexpected: 1}, false, "TCPMD5Unexpected"},
		{"a key there is nothing to a peer with one", md5Drops{unexpected: 1}, true, ""},
		{"another key is nothing to a peer without one", md5Drops{wrong: 1, missing: 1}, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m md5Watch
			m.take(md5Drops{5, 5, 5}, now)
			if got := m.why(c.password, now); got != "" {
				t.Errorf("drops of before the start explain: %q", got)
			}
			m.take(md5Drops{5 + c.grows.missing, 5 + c.grows.unexpected, 5 + c.grows.wrong}, now)
			if got := m.why(c.password, now); !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
				t.Errorf("explains %q, want %q", got, c.want)
			}
			if got := m.why(c.password, now.Add(md5Memory)); got != "" {
				t.Errorf("explains %q after %s", got, md5Memory)
			}
			none := func(bool) bool { return false }
			if got := m.problem(none, []string{"10.0.0.0/24 (clients)"}, now); got == "" || !strings.Contains(got, "such as a client of 10.0.0.0/24 (clients)") {
				t.Errorf("problem %q, want one: no peer is down", got)
			}
			if got := m.problem(func(bool) bool { return true }, nil, now); got != "" {
				t.Errorf("problem %q beside a peer that is down", got)
			}
		})
	}
}

// TestWrongPassword: a session that does not come up because the keys differ says so at
// both ends, from the kernel's counters.
func TestWrongPassword(t *testing.T) {
	n := startNodes(t, testConfig(t, "127.109.0.1"), testConfig(t, "127.109.0.2"))
	for i, key := range []string{"right", "guess"} {
		p := from(to(n[1-i].addr.String(), IBGP), n[i].addr.String())
		p.Password, p.ConnectRetry = key, 2*time.Second
		n[i].setPeers([]Peer{p})
	}
	for i, x := range n {
		eventually(t, func() string {
			if got := x.peer(n[1-i].addr).LastError; !strings.Contains(got, "TCPMD5Failure") {
				return fmt.Sprintf("end %d: %q, want the kernel's counter", i, got)
			}
			return ""
		})
	}
}
