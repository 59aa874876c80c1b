package bgp

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"onlink/bgp/gobgp"
)

// TestHostileOpens: capabilities that cannot be decoded, or encoded, do not prevent
// the session, and listing the peer harms nothing.
func TestHostileOpens(t *testing.T) {
	needsPatches(t)
	w := startWitnessed(t, "127.54")
	for i, caps := range [][]byte{
		{73, 4, 1, 0xff, 1, 0xfe},                // FQDN, not UTF-8
		{73, 0},                                  // FQDN, empty
		{73, 1, 200},                             // cut
		{73, 3, 9, 'a', 'b'},                     // a name longer than the capability
		{73, 6, 1, 'a', 1, 'b', 0, 0},            // more behind it
		{75, 3, 2, 0xff, 0xff},                   // software version, not UTF-8
		{75, 0, 75, 1, 0, 75, 2, 255, 1},         // empty, zero, cut
		{64, 2, 0xff, 0xff},                      // graceful restart, all flags, no family
		{64, 6, 0x80, 9, 0xff, 0xff, 0xff, 1},    // of an unknown family
		{69, 4, 0, 1, 1, 0xff},                   // add-path with a mode there is not
		{69, 0, 5, 0, 71, 0, 4, 0},               // nothing in them
		{5, 6, 0, 1, 0, 99, 0xff, 0xff},          // next hops of unknown families
		{71, 7, 0, 1, 1, 0xff, 0xff, 0xff, 0xff}, // LLGR without graceful restart
		{9, 1, 77, 6, 0, 70, 0, 128, 0, 255, 0},  // role 77, extended messages, and more
		{1, 4, 0xff, 0xff, 0xff, 0xff},           // an unknown family
		{0, 0, 66, 0, 67, 3, 0xff, 0xff, 0xff},   // reserved, deprecated, dynamic
	} {
		local := fmt.Sprintf("127.54.1.%d", 1+i)
		p := dialRaw(t, local, "127.54.0.1", caps...)
		eventually(t, func() string { return notUp(w.peer(addr(local))) })
		marker := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(100 + i), 0}), 26)
		b := marker.Addr().As4()
		p.send(2, updateBody(0, nil, append([]byte{26}, b[:]...)))
		eventually(t, func() string {
			if !has(w.node, marker, local) {
				return fmt.Sprintf("capabilities %x: the route is not there: %s", caps, w.ledger.get(addr(local)).lastError)
			}
			return ""
		})
		if err := p.conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	w.unharmed()
	if n := w.Faults().Panics; n != 0 {
		t.Errorf("%d panics were contained, want none", n)
	}
}

// TestContainedOperation: a panic on the engine's goroutine during one of our calls
// is counted, and the engine goes on.
func TestContainedOperation(t *testing.T) {
	needsPatches(t)
	w := startWitnessed(t, "127.55")
	told := 0
	stop := w.engine.WatchSets(func(netip.Prefix, []gobgp.Path) {
		if told++; told == 1 {
			panic("planted")
		}
	}, func() {})
	defer stop()
	if got := w.Faults().Panics; got != 1 {
		t.Errorf("%d panics counted, want 1", got)
	}
	w.unharmed()
}

// TestFaultsAreCounted: the faults of a peer's messages are counted by their
// treatment, and the reason of its session's end names the fault.
func TestFaultsAreCounted(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.56.0.1"))[0]
	peer := to("127.56.0.2", Client)
	peer.Passive, peer.Families = true, []Family{IPv4, IPv6}
	x.setPeers([]Peer{peer})
	p := dialRaw(t, "127.56.0.2", "127.56.0.1")
	p.send(2, updateBody(1, whole(0x40, 1, 9), hostileNLRI))                  // ORIGIN 9
	p.send(2, updateBody(0, whole(0xc0, 7, 1), hostileNLRI))                  // AGGREGATOR of one byte
	p.send(2, append([]byte{0, 0, 0, 6}, whole(0x80, 15, 0, 25, 70)...))      // only a family not negotiated
	p.send(2, updateBody(0, whole(0x80, 14, 0, 2, 1, 4, 1, 2, 3, 4, 0), nil)) // IPv6 next hop of four bytes
	if got := p.closing(); got != "3/9" {
		t.Errorf("ended with %q, want 3/9", got)
	}
	want := Faults{Reset: 1, Withdrawn: 1, Discarded: 1, Ignored: 1}
	eventually(t, func() string {
		got := x.peer(peer.Address)
		if got.Faults != want || got.State == established {
			return fmt.Sprintf("%s, faults %+v, want %+v", got.State, got.Faults, want)
		}
		return ""
	})
	const text = "sent NOTIFICATION 3/9 UPDATE message error, optional attribute error: attribute 14: next hop of 4 bytes"
	if got := x.peer(peer.Address).LastError; got != text {
		t.Errorf("last error %q, want %q", got, text)
	}
	if got := x.Faults(); got != want {
		t.Errorf("faults of all peers %+v, want %+v", got, want)
	}

	p = dialRaw(t, "127.56.0.2", "127.56.0.1")
	p.send(3, append([]byte{6, 2, 6}, "\xff\x1b[2J\n"...)) // RFC 9003 requires UTF-8
	eventually(t, func() string {
		got := x.peer(peer.Address).LastError
		if !utf8.ValidString(got) || got != "received NOTIFICATION 6/2 cease, administrative shutdown: \ufffd\ufffd[2J " {
			return fmt.Sprintf("last error %q", got)
		}
		return ""
	})
}

// TestLogPace: a flood of records is cut, and the number of dropped ones is logged.
func TestLogPace(t *testing.T) {
	var p logPace
	at := time.Unix(1000, 0)
	written := 0
	for range 500 {
		if ok, _ := p.admit("peer event", "event", at); ok {
			written++
		}
	}
	if written != logBurst {
		t.Errorf("%d records written, want %d", written, logBurst)
	}
	if ok, left := p.admit("peer event", "event", at.Add(logWindow)); !ok || left != 500-logBurst {
		t.Errorf("after the window: written %t, %d left out before, want %d", ok, left, 500-logBurst)
	}
	written = 0
	for i := range 3 * logKinds {
		if ok, _ := p.admit(strconv.Itoa(i), "event", at.Add(logWindow)); ok {
			written++
		}
	}
	if len(p.kinds) > logKinds+1 || written > logKinds+logBurst {
		t.Errorf("%d kinds kept and %d records written of %d", len(p.kinds), written, 3*logKinds)
	}
}

// TestPrintable: a text of a peer becomes one line that moves no cursor.
func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain ünïcode":            "plain ünïcode",
		"a\nb\tc":                  "a b c",
		"\x1b[31mred":              "\ufffd[31mred",
		"\xff\xfe":                 "\ufffd",
		strings.Repeat("x", 10000): strings.Repeat("x", maxErrorText) + " ...",
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestForgetStrangers: the number of records of dynamic peers, which any host can
// add, is bounded; those of configured ones are kept.
func TestForgetStrangers(t *testing.T) {
	s, err := New(testConfig(t, "127.57.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	configured := addr("10.0.0.1")
	if err := s.SetPeers(t.Context(), []Peer{to(configured.String(), IBGP)}, nil); err != nil {
		t.Fatal(err)
	}
	s.ledger.failed(configured, "of old")
	a := addr("10.1.0.0")
	for range 2 * strangers {
		a = a.Next()
		s.ledger.failed(a, "never came up")
	}
	s.sessions.forgetStrangers(time.Now())
	if n := len(s.ledger.peers); n != 2*strangers+1 {
		t.Errorf("%d records at once, want all %d", n, 2*strangers+1)
	}
	s.sessions.forgetStrangers(time.Now().Add(2 * strangerMemory))
	if n := len(s.ledger.peers); n != 1 || s.ledger.get(configured).lastError != "of old" {
		t.Errorf("%d records left, want the configured peer's", n)
	}
}
