package bgp

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestHold: a held session goes down and loses its routes although both sides
// have graceful restart, its peer receives the reason, and it stays down as long as
// one holder is left, also after a change of its configuration.
func TestHold(t *testing.T) {
	n := startNodes(t, testConfig(t, "127.38.0.1"), testConfig(t, "127.38.0.2"))
	x, other := n[0], n[1]
	other.originate("10.244.2.0/26")
	// Passive at one end, so that only the held side dials: a session that
	// comes back did so because it was released.
	peer := from(to("127.38.0.2", IBGP), "127.38.0.1")
	x.setPeers([]Peer{peer})
	waiting := from(to("127.38.0.1", IBGP), "127.38.0.2")
	waiting.Passive = true
	other.setPeers([]Peer{waiting})
	x.waitRoutes("10.244.2.0/26 via 127.38.0.2")

	if err := x.Hold(t.Context(), addr("127.38.0.9"), "a", "why"); !errors.Is(err, ErrUnknownPeer) {
		t.Errorf("got %v, want ErrUnknownPeer", err)
	}
	for _, holder := range []string{"bfd", "admin"} {
		if err := x.Hold(t.Context(), other.addr, holder, "held by "+holder); err != nil {
			t.Fatal(err)
		}
	}
	x.waitRoutes()
	if got := x.peer(other.addr).Held; got != "held by admin; held by bfd" {
		t.Errorf("held %q", got)
	}
	eventually(t, func() string {
		if got := other.peer(x.addr).LastError; !strings.Contains(got, "held by bfd") {
			return fmt.Sprintf("the peer was told %q", got)
		}
		return ""
	})
	if err := x.Release(t.Context(), other.addr, "bfd"); err != nil {
		t.Fatal(err)
	}
	peer.AllowOwnAS = 1 // needs a new session
	x.setPeers([]Peer{peer})
	if got := x.peer(other.addr); got.State == established || got.Held != "held by admin" {
		t.Errorf("still held by admin, yet %+v", got)
	}
	if err := x.Release(t.Context(), other.addr, "admin"); err != nil {
		t.Fatal(err)
	}
	x.waitRoutes("10.244.2.0/26 via 127.38.0.2")
	// Who removes a disabled peer and adds one again has a new one.
	if err := x.Hold(t.Context(), other.addr, "admin", "held again"); err != nil {
		t.Fatal(err)
	}
	x.waitRoutes()
	x.setPeers(nil)
	x.setPeers([]Peer{peer})
	if got := x.peer(other.addr).Held; got != "" {
		t.Errorf("a new peer is held: %q", got)
	}
	x.waitRoutes("10.244.2.0/26 via 127.38.0.2")
	if err := x.Reset(t.Context(), other.addr, "new key"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if got := x.peer(other.addr); got.Flaps == 0 || got.State != established {
			return fmt.Sprintf("not up again after a reset: %+v", got)
		}
		return ""
	})
}

// TestHoldIsNoRestart: a session that we shut down does not restart, even if
// the peer, which has graceful restart, closes the connection the moment it
// receives the CEASE: its routes go at once.
func TestHoldIsNoRestart(t *testing.T) {
	x := startNodes(t, testConfig(t, "127.39.0.1"))[0]
	p := Peer{Name: "raw", Address: addr("127.39.0.2"), Passive: true, Session: Session{Role: IBGP}}
	x.setPeers([]Peer{p})
	gracefulRestart := []byte{64, 6, 0x40, 120, 0, 1, 1, 0x80} // N bit, 120 s, IPv4 kept
	for round := range 10 {
		raw := dialRaw(t, "127.39.0.2", "127.39.0.1", gracefulRestart...)
		raw.update(joined(attrOrigin, attrASPath, attrNextHop, attrLocalPref), someNLRI)
		x.waitRoutes("10.244.7.0/26 via 127.30.0.7")
		ended := make(chan string, 1)
		go func() {
			ended <- raw.ending()
			_ = raw.conn.Close() // as fast as can be; the speaker may have closed it
		}()
		if err := x.Hold(t.Context(), p.Address, "test", "why"); err != nil {
			t.Fatal(err)
		}
		if got := <-ended; got != "6/9" {
			t.Errorf("round %d: the session ended with %q, want 6/9", round, got)
		}
		x.waitRoutes()
		if err := x.Release(t.Context(), p.Address, "test"); err != nil {
			t.Fatal(err)
		}
	}
}
