package bgp

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// silently requires that a session ended without a NOTIFICATION.
func silently(t *testing.T, p *rawPeer) {
	t.Helper()
	for {
		typ, body, err := readMessage(p.conn)
		switch {
		case errors.Is(err, io.EOF), err != nil && strings.Contains(err.Error(), "reset by peer"):
			return
		case err != nil:
			t.Fatalf("the session before did not end: %v", err)
		case typ == 3:
			t.Fatalf("the session before ended with a NOTIFICATION: %x", body)
		}
	}
}

// TestConnectedAnew: the connection of a peer that restarted without a NOTIFICATION,
// as after a power cut, is accepted at once: its last session is dead, and its routes
// are stale.
func TestConnectedAnew(t *testing.T) {
	for name, dynamic := range map[string]bool{"configured": false, "of a range": true} {
		t.Run(name, func(t *testing.T) {
			r := startRestarter(t, map[bool]string{false: "127.77.0.", true: "127.77.1."}[dynamic], dynamic, nil)
			caps := restart(120, kept4, kept6)
			first := r.up(caps)
			r.says(first, "4.1", "4.2", "6.1")
			first.end4()
			first.end6()
			r.keeps("told", "4.1", "4.2", "6.1")
			since := r.x.peer(addr(r.addr)).Since
			// Connections without a message do not keep the peer away.
			for range 10 {
				r.dial()
			}
			second := r.dial()
			second.send(1, r.open(caps, capFamilies))
			second.send(4, nil)
			silently(t, first)
			// The last session is closed a moment before the engine reports its end.
			eventually(t, func() string {
				got := r.x.peer(addr(r.addr))
				if notUp(got) != "" || got.Flaps != 1 || !got.Since.After(since) || !strings.Contains(got.LastError, "connected anew") {
					return fmt.Sprintf("after the return: %+v", got)
				}
				return ""
			})
			r.keeps("back", "4.1", "4.2", "6.1")
			r.says(second, "4.1")
			second.end4()
			r.keeps("End-of-RIB of IPv4", "4.1", "6.1")
			second.end6()
			r.keeps("End-of-RIB of both", "4.1")
			r.neverLost("4.1")
			third := r.dial() // and once more
			third.send(1, r.open(restart(120, lost4, lost6), capFamilies))
			third.send(4, nil)
			silently(t, second)
			r.keeps("forwarding state lost")
			r.says(third, "4.3")
			r.keeps("told", "4.3")
			r.dies(third)
			r.keeps("away", "4.3")
		})
	}
}

// TestNotConnectedAnew: only a valid OPEN of this peer, with graceful restart in
// both sessions, ends the one before.
func TestNotConnectedAnew(t *testing.T) {
	r := startRestarter(t, "127.77.2.", false, nil)
	caps := restart(120, kept4, kept6)
	first := r.up(caps)
	marker := 0
	alive := func(name string) {
		t.Helper()
		route := []string{"4.1", "4.2", "4.3", "4.4", "4.5", "4.6", "4.7", "4.8", "4.9"}
		r.says(first, route[marker])
		marker++
		r.keeps(name, route[:marker]...)
		if got := r.x.peer(addr(r.addr)); got.State != established || got.Flaps != 0 {
			t.Errorf("%s: the session suffered: %+v", name, got)
		}
	}
	for _, tt := range []struct {
		name string
		send func(p *rawPeer)
		want string
	}{
		{"a KEEPALIVE", func(p *rawPeer) { p.send(4, nil) }, "5/1"},
		{"garbage", func(p *rawPeer) { _, _ = p.conn.Write([]byte("GET / HTTP/1.1\r\nHost: here\r\n\r\n")) }, "1/1"},
		{"an OPEN without graceful restart", func(p *rawPeer) { p.send(1, r.open(capFamilies)) }, "6/7"},
		{"an OPEN of another AS", func(p *rawPeer) {
			other := *r
			other.as = 64999
			p.send(1, other.open(caps, capFamilies))
		}, "2/2"},
		{"an OPEN of another speaker", func(p *rawPeer) {
			other := *r
			other.id = "127.77.2.99"
			p.send(1, other.open(caps, capFamilies))
		}, "6/5"},
		{"an OPEN with our identifier", func(p *rawPeer) {
			other := *r
			other.id = "127.77.2.1"
			p.send(1, other.open(caps, capFamilies))
		}, "2/3"},
		{"an OPEN that is cut", func(p *rawPeer) { p.send(1, r.open(caps)[:12]) }, "2/0"},
	} {
		p := r.dial()
		tt.send(p)
		if got := p.closing(); got != tt.want {
			t.Errorf("%s: ended with %q, want %s", tt.name, got, tt.want)
		}
		alive(tt.name)
	}
	r.dies(first)
	first = r.up() // without graceful restart
	r.keeps("back without graceful restart")
	marker = 0
	c, err := r.connect()
	if err != nil {
		t.Fatal(err)
	}
	if got := (&rawPeer{t: t, conn: c}).closing(); got != "6/7" {
		t.Errorf("a session without graceful restart: ended with %q, want 6/7", got)
	}
	r.says(first, "4.1")
	r.keeps("a session without graceful restart", "4.1")
}

// TestConnectedAnewHalfOpen: a connection without a message does not keep the peer
// away until its handshake has timed out.
func TestConnectedAnewHalfOpen(t *testing.T) {
	for name, tt := range map[string]struct {
		net     string
		dynamic bool
		opens   bool
	}{
		"OpenSent": {"127.77.3.", false, false}, "OpenConfirm": {"127.77.4.", false, true},
		"OpenSent of a range": {"127.77.5.", true, false}, "OpenConfirm of a range": {"127.77.6.", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := startRestarter(t, tt.net, tt.dynamic, nil)
			first := r.dial()
			if tt.opens {
				first.send(1, r.open(capFamilies))
				if got := first.answer(); got != "used" {
					t.Fatalf("the OPEN was not taken: %s", got)
				}
			}
			start := time.Now()
			second := r.up()
			if took := time.Since(start); took > 15*time.Second {
				t.Errorf("the peer was kept away for %s", took)
			}
			silently(t, first)
			r.says(second, "4.1")
			r.keeps("told", "4.1")
		})
	}
}
