package bgp

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"onlink/bgp/gobgp"
	"onlink/bgp/policy"
)

// TestSecondRestart: routes that were stale before a second restart were not
// announced again in between, and go (RFC 4724 section 4.2). The others are kept.
func TestSecondRestart(t *testing.T) {
	for name, dynamic := range map[string]bool{"configured": false, "of a range": true} {
		t.Run(name, func(t *testing.T) {
			r := startRestarter(t, map[bool]string{false: "127.76.0.", true: "127.76.1."}[dynamic], dynamic, nil)
			caps := restart(120, kept4, kept6)
			p := r.up(caps)
			r.says(p, "4.1", "4.2", "6.1", "6.2")
			p.end4()
			p.end6()
			r.keeps("told", "4.1", "4.2", "6.1", "6.2")
			r.dies(p)
			r.keeps("away", "4.1", "4.2", "6.1", "6.2")
			p = r.up(caps)
			r.says(p, "4.1", "6.1", "4.3")
			r.keeps("back, no End-of-RIB", "4.1", "4.2", "4.3", "6.1", "6.2")
			r.dies(p)
			r.keeps("away again", "4.1", "4.3", "6.1")
			p = r.up(caps)
			r.says(p, "4.1")
			p.end4()
			p.end6()
			r.keeps("back, with End-of-RIB", "4.1")
			r.neverLost("4.1")
		})
	}
}

// TestRestartFamilies: the routes of every family are kept or removed on their own.
func TestRestartFamilies(t *testing.T) {
	r := startRestarter(t, "127.76.2.", false, nil)
	both := restart(120, kept4, kept6)
	for _, step := range []struct {
		name string
		caps [][]byte
		want []string // at once
	}{
		{"both kept", [][]byte{both}, []string{"4.1", "6.1"}},
		{"IPv6 lost its forwarding state", [][]byte{restart(120, kept4, lost6)}, []string{"4.1"}},
		{"IPv4 lost its forwarding state", [][]byte{restart(120, lost4, kept6)}, []string{"6.1"}},
		{"IPv6 is not in the capability", [][]byte{restart(120, kept4)}, []string{"4.1"}},
		{"IPv6 is not negotiated", [][]byte{both, capFamilies[:6]}, []string{"4.1"}},
		{"IPv4 is not negotiated", [][]byte{both, capFamilies[6:]}, []string{"6.1"}},
		{"no family", [][]byte{restart(120)}, nil},
		{"no graceful restart", nil, nil},
	} {
		p := r.up(both)
		r.says(p, "4.1", "6.1")
		r.keeps(step.name+": told", "4.1", "6.1")
		r.dies(p)
		r.keeps(step.name+": away", "4.1", "6.1")
		p = r.up(step.caps...)
		r.keeps(step.name, step.want...)
		r.dies(p)
		r.keeps(step.name + ": away again") // not announced again
	}
	p := r.up(both)
	r.says(p, "4.1", "6.1")
	r.keeps("told", "4.1", "6.1")
	r.dies(p)
	p = r.up(both)
	r.keeps("back", "4.1", "6.1")
	p.end4()
	r.keeps("End-of-RIB of IPv4", "6.1")
	p.end6()
	r.keeps("End-of-RIB of both")
	r.says(p, "4.1")
	r.dies(p)
	// A family that is only in the capability has no End-of-RIB to wait for.
	p = r.up(both, capFamilies[:6])
	r.keeps("back with IPv4", "4.1")
	r.says(p, "4.2")
	p.end4()
	r.keeps("End-of-RIB of IPv4 alone", "4.2")
	if got := r.x.peer(addr(r.addr)); got.State != established {
		t.Errorf("the session is %s", got.State)
	}
}

// TestRestartReturns: another speaker in the peer's place has kept nothing, one of
// another AS is refused, and a restart time of zero keeps nothing.
func TestRestartReturns(t *testing.T) {
	r := startRestarter(t, "127.76.3.", false, nil)
	caps := restart(120, kept4, kept6)
	p := r.up(caps)
	r.says(p, "4.1")
	r.keeps("told", "4.1")
	r.dies(p)
	r.id = "127.76.3.99"
	p = r.up(caps)
	r.keeps("another identifier")
	r.says(p, "4.2")
	r.keeps("told by another identifier", "4.2")
	r.dies(p)
	r.as = 64999
	p = r.dial()
	p.send(1, r.open(caps, capFamilies))
	if got := p.closing(); got != "2/2" {
		t.Errorf("another AS: ended with %q, want 2/2", got)
	}
	r.as = 64512
	_ = r.dial().conn.Close() // the refused one has come to its end
	r.keeps("another AS was refused", "4.2")
	p = r.up(restart(0, kept4, kept6))
	r.says(p, "4.3")
	r.keeps("told", "4.2", "4.3")
	r.dies(p)
	r.keeps("a restart time of 0")
}

// TestRestartPrefixLimit: a peer's prefixes from before its restart are not counted
// with its present ones.
func TestRestartPrefixLimit(t *testing.T) {
	r := startRestarter(t, "127.76.4.", false, func(s *Session) { s.Import.MaxPrefixes = 3 })
	caps := restart(120, kept4, kept6)
	p := r.up(caps)
	r.says(p, "4.1", "4.2", "4.3")
	r.keeps("told", "4.1", "4.2", "4.3")
	r.dies(p)
	p = r.up(caps)
	r.says(p, "4.3", "4.4", "4.5")
	r.keeps("back with others", "4.1", "4.2", "4.3", "4.4", "4.5")
	p.end4()
	p.end6()
	r.keeps("said everything", "4.3", "4.4", "4.5")
	r.says(p, "4.6")
	if got := p.closing(); got != "6/1" {
		t.Errorf("a prefix too many: ended with %q, want 6/1", got)
	}
	r.keeps("a prefix too many")
}

// TestRestartFailedAttempts: a connection without a session, which any host can
// open, does not end the restart time.
func TestRestartFailedAttempts(t *testing.T) {
	for name, dynamic := range map[string]bool{"configured": false, "of a range": true} {
		t.Run(name, func(t *testing.T) {
			r := startRestarter(t, map[bool]string{false: "127.76.5.", true: "127.76.6."}[dynamic], dynamic, nil)
			caps := restart(120, kept4, kept6)
			p := r.up(caps)
			r.says(p, "4.1")
			r.keeps("told", "4.1")
			r.dies(p)
			for _, attempt := range []func(*rawPeer){
				func(*rawPeer) {}, // closed without a message
				func(p *rawPeer) { p.send(4, nil) },
				func(p *rawPeer) { p.send(1, r.open(caps)[:12]) },
				func(p *rawPeer) { // closed in OpenConfirm
					p.send(1, r.open(caps, capFamilies))
					if got := p.answer(); got != "used" {
						t.Errorf("the OPEN was not taken: %s", got)
					}
				},
			} {
				p := r.dial()
				attempt(p)
				if err := p.conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Log(err) // it has been closed
				}
				p.closing()
				_ = p.conn.Close()
				r.keeps("after a failed attempt", "4.1")
			}
			p = r.up(caps)
			r.keeps("back", "4.1")
			p.end4()
			p.end6()
			r.keeps("End-of-RIB")
			if got := r.x.peer(addr(r.addr)); got.Flaps != 1 {
				t.Errorf("%d losses, want 1", got.Flaps)
			}
		})
	}
}

// TestRestartExpiresInOpenConfirm: when the restart time is over the routes go; the
// handshake under way goes on.
func TestRestartExpiresInOpenConfirm(t *testing.T) {
	for name, dynamic := range map[string]bool{"configured": false, "of a range": true} {
		t.Run(name, func(t *testing.T) {
			r := startRestarter(t, map[bool]string{false: "127.76.7.", true: "127.76.8."}[dynamic], dynamic, nil)
			p := r.up(restart(4, kept4, kept6))
			r.says(p, "4.1")
			r.keeps("told", "4.1")
			r.dies(p)
			p = r.dial()
			p.send(1, r.open(restart(120, kept4, kept6), capFamilies))
			if got := p.answer(); got != "used" {
				t.Fatalf("the OPEN was not taken: %s", got)
			}
			r.keeps("the restart time is over")
			p.send(4, nil)
			r.isUp()
			r.says(p, "4.2")
			r.keeps("back", "4.2")
			r.dies(p)
			r.keeps("away again", "4.2")
		})
	}
	t.Run("nobody comes back", func(t *testing.T) {
		r := startRestarter(t, "127.76.9.", true, nil)
		p := r.up(restart(1, kept4, kept6))
		r.says(p, "4.1")
		r.keeps("told", "4.1")
		r.dies(p)
		r.keeps("the restart time is over")
		eventually(t, func() string {
			known := 0
			if err := r.x.engine.Neighbors(false, func(gobgp.State) { known++ }); err != nil || known != 0 {
				return fmt.Sprintf("the engine knows %d clients, want none: %v", known, err)
			}
			return ""
		})
	})
}

// TestLongLivedReturn: the end of the long-lived time removes the kept routes, not
// those announced since; and routes are kept only for a peer whose OPEN has the F
// bit.
func TestLongLivedReturn(t *testing.T) {
	const stale = 5 * time.Second
	r := startRestarter(t, "127.76.10.", false, func(s *Session) {
		s.Role, s.ASN, s.LongLived = EBGP, 65010, stale
		s.Import.Accept = []policy.PrefixRule{{Prefix: prefix("10.244.0.0/16"), Ge: 16, Le: 32}, {Prefix: prefix("fd00:244::/32"), Ge: 32, Le: 64}}
	})
	r.as = 65010
	long := func(f4, f6 byte) []byte {
		return []byte{71, 14, 0, 1, 1, f4, 0, 0x0e, 0x10, 0, 2, 1, f6, 0, 0x0e, 0x10}
	}
	lastResort := func() {
		t.Helper()
		eventually(t, func() string {
			for _, path := range r.x.Paths(t.Context(), named("4.1")) {
				if slices.Contains(path.Communities, "65535:6") {
					return ""
				}
			}
			return "4.1 is not marked as long-lived stale"
		})
	}
	caps := [][]byte{restart(1, kept4, kept6), long(0x80, 0x80)}
	p := r.up(caps...)
	r.says(p, "4.1", "6.1")
	r.keeps("told", "4.1", "6.1")
	r.dies(p)
	lastResort()
	p = r.up(caps...)
	r.says(p, "4.2")
	r.keeps("back, no End-of-RIB", "4.1", "4.2", "6.1")
	r.keeps("the long-lived time is over", "4.2")
	if got := r.x.peer(addr(r.addr)); got.State != established {
		t.Errorf("the session is %s", got.State)
	}
	r.neverLost("4.2")

	p.end4()
	p.end6()
	r.says(p, "4.1", "6.1")
	r.keeps("told", "4.1", "4.2", "6.1")
	r.dies(p)
	lastResort()
	p = r.up(restart(1, lost4, kept6), long(0, 0))
	r.keeps("IPv4 lost its forwarding state", "6.1")
	r.says(p, "4.1", "6.1")
	r.keeps("told", "4.1", "6.1")
	r.dies(p)
	lastResort()
	r.up()
	r.keeps("back without graceful restart")
}
