package bgp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"onlink/bgp/policy"
)

// TestReflectAndWithdraw: two clients behind a reflector that accepts them
// by prefix receive each other's blocks with the next hop unchanged, v4 and
// v6 on one session, and lose them on withdrawal.
func TestReflectAndWithdraw(t *testing.T) {
	withV6 := func(c Config, a string) Config {
		c.NodeAddress6 = addr(a)
		return c
	}
	n := startNodes(t, withV6(testConfig(t, "127.1.0.1"), "fd00:1::1"),
		withV6(testConfig(t, "127.1.0.2"), "fd00:1::2"), withV6(testConfig(t, "127.1.0.3"), "fd00:1::3"))
	rr, a, b := n[0], n[1], n[2]
	rr.originate("10.244.0.0/26")
	a.originate("10.244.1.0/26", "fd00:244:0:1::/122")
	b.originate("10.244.2.0/26")
	rr.setPeers(nil, clientsOf("127.1.0.0/24"))
	a.setPeers([]Peer{from(to("127.1.0.1", IBGP), "127.1.0.2")})
	b.setPeers([]Peer{from(to("127.1.0.1", IBGP), "127.1.0.3")})

	rr.waitRoutes("10.244.1.0/26 via 127.1.0.2", "10.244.2.0/26 via 127.1.0.3", "fd00:244:0:1::/122 via fd00:1::2")
	a.waitRoutes("10.244.0.0/26 via 127.1.0.1", "10.244.2.0/26 via 127.1.0.3")
	b.waitRoutes("10.244.0.0/26 via 127.1.0.1", "10.244.1.0/26 via 127.1.0.2", "fd00:244:0:1::/122 via fd00:1::2")
	a.waitUp(rr.addr)

	t.Run("paths tell the whole story", func(t *testing.T) {
		got := b.Paths(t.Context(), prefix("10.244.1.0/26"))
		if len(got) != 1 {
			t.Fatalf("got %d paths, want 1: %+v", len(got), got)
		}
		got[0].Age = 0
		want := PathInfo{
			Prefix: prefix("10.244.1.0/26"), NextHop: a.addr, Peer: rr.addr, LocalPref: 100, Origin: "igp",
			OriginatorID: a.addr, ClusterList: []netip.Addr{rr.addr}, Best: true,
		}
		if diff := cmp.Diff(want, got[0], cmp.Comparer(func(x, y netip.Addr) bool { return x == y }), cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })); diff != "" {
			t.Errorf("path (-want +got):\n%s", diff)
		}
		if own := a.Paths(t.Context(), prefix("10.244.1.0/26")); len(own) != 1 || !own[0].Own {
			t.Errorf("own prefix: got %+v, want one own path", own)
		}
	})
	t.Run("status of a dynamic client", func(t *testing.T) {
		eventually(t, func() string {
			p := rr.peer(a.addr)
			if p.Received != 2 || p.Advertised != 2 {
				return fmt.Sprintf("received %d advertised %d, want 2 and 2", p.Received, p.Advertised)
			}
			if !p.Dynamic || p.Name != "clients-127.1.0.0/24" || p.Role != Client || p.ASN != 64512 || len(p.Families) != 2 {
				return fmt.Sprintf("status %+v", p)
			}
			return ""
		})
	})
	t.Run("synced", func(t *testing.T) {
		eventually(t, func() string {
			if done, waiting := a.Synced(); !done {
				return fmt.Sprintf("not synced, waiting for %q", waiting)
			}
			return ""
		})
	})

	a.originate("fd00:244:0:1::/122")
	b.waitRoutes("10.244.0.0/26 via 127.1.0.1", "fd00:244:0:1::/122 via fd00:1::2")
	a.originate()
	b.waitRoutes("10.244.0.0/26 via 127.1.0.1")
	rr.waitRoutes("10.244.2.0/26 via 127.1.0.3")
}

// TestMultipath: one prefix from two nodes is one update with both next
// hops; either withdrawal leaves the other. The same hop from two reflectors
// counts once.
func TestMultipath(t *testing.T) {
	n := startNodes(t, testConfig(t, "127.2.0.1"), testConfig(t, "127.2.0.2"), testConfig(t, "127.2.0.3"))
	x, a, b := n[0], n[1], n[2]
	a.originate("10.99.9.0/26", "10.244.1.0/26")
	b.originate("10.99.9.0/26")
	wide := func(other string) Peer {
		p := from(to(other, IBGP), "127.2.0.1")
		p.Import = accepting("10.99.0.0/16") // outside the pools, where a prefix may be several nodes'
		return p
	}
	x.setPeers([]Peer{wide("127.2.0.2"), wide("127.2.0.3")})
	passive := func(local string) []Peer {
		p := from(to("127.2.0.1", IBGP), local)
		p.Passive = true
		return []Peer{p}
	}
	a.setPeers(passive("127.2.0.2"))
	b.setPeers(passive("127.2.0.3"))
	x.waitRoutes("10.244.1.0/26 via 127.2.0.2", "10.99.9.0/26 via 127.2.0.2,127.2.0.3")
	b.originate()
	x.waitRoutes("10.244.1.0/26 via 127.2.0.2", "10.99.9.0/26 via 127.2.0.2")
	b.originate("10.99.9.0/26")
	x.waitRoutes("10.244.1.0/26 via 127.2.0.2", "10.99.9.0/26 via 127.2.0.2,127.2.0.3")

	t.Run("a prefix that becomes ours leaves the feed", func(*testing.T) {
		x.originate("10.99.9.0/26")
		x.waitRoutes("10.244.1.0/26 via 127.2.0.2")
		x.originate()
		x.waitRoutes("10.244.1.0/26 via 127.2.0.2", "10.99.9.0/26 via 127.2.0.2,127.2.0.3")
	})
	t.Run("a drained path gives way", func(t *testing.T) {
		if err := b.SetOrigins(t.Context(), []Origin{{Prefix: prefix("10.99.9.0/26"), Draining: true}}); err != nil {
			t.Fatal(err)
		}
		x.waitRoutes("10.244.1.0/26 via 127.2.0.2", "10.99.9.0/26 via 127.2.0.2")
		a.originate("10.244.1.0/26")
		x.waitRoutes("10.244.1.0/26 via 127.2.0.2", "10.99.9.0/26 via 127.2.0.3")
	})
}

// TestTwoReflectors: each node peers with both; a hop announced twice appears
// once, no route stays after a withdrawal, and the loss of one reflector
// withdraws nothing.
func TestTwoReflectors(t *testing.T) {
	n := startNodes(t, testConfig(t, "127.3.0.1"), testConfig(t, "127.3.0.2"),
		testConfig(t, "127.3.1.1"), testConfig(t, "127.3.1.2"))
	r1, r2, a, b := n[0], n[1], n[2], n[3]
	a.originate("10.244.1.0/26")
	r1.originate("10.244.0.0/26")
	waiting := from(to("127.3.0.1", IBGP), "127.3.0.2")
	waiting.Passive = true
	r1.setPeers([]Peer{from(to("127.3.0.2", IBGP), "127.3.0.1")}, clientsOf("127.3.1.0/24"))
	r2.setPeers([]Peer{waiting}, clientsOf("127.3.1.0/24"))
	for _, c := range []*node{a, b} {
		c.setPeers([]Peer{from(to("127.3.0.1", IBGP), c.addr.String()), from(to("127.3.0.2", IBGP), c.addr.String())})
	}
	b.waitUp(r1.addr, r2.addr)
	b.waitRoutes("10.244.0.0/26 via 127.3.0.1", "10.244.1.0/26 via 127.3.1.1")
	r2.waitRoutes("10.244.0.0/26 via 127.3.0.1", "10.244.1.0/26 via 127.3.1.1")
	for i := range 3 {
		a.originate()
		for _, at := range []*node{r1, r2, b} {
			want := []string{"10.244.0.0/26 via 127.3.0.1"}
			if at == r1 {
				want = nil
			}
			at.waitRoutes(want...)
			if got := at.Paths(t.Context(), prefix("10.244.1.0/26")); len(got) != 0 {
				t.Fatalf("round %d: %s keeps a ghost: %+v", i, at.addr, got)
			}
		}
		a.originate("10.244.1.0/26")
		b.waitRoutes("10.244.0.0/26 via 127.3.0.1", "10.244.1.0/26 via 127.3.1.1")
	}
}

// TestUntouchedSessions: edits of one peer leave the others' sessions alone.
func TestUntouchedSessions(t *testing.T) {
	n := startNodes(t, testConfig(t, "127.4.0.1"), testConfig(t, "127.4.0.2"), testConfig(t, "127.4.0.3"))
	x, a, b := n[0], n[1], n[2]
	a.originate("10.244.1.0/26")
	b.originate("10.244.2.0/26", "172.16.0.0/24")
	pa, pb := from(to("127.4.0.2", IBGP), "127.4.0.1"), from(to("127.4.0.3", IBGP), "127.4.0.1")
	a.setPeers([]Peer{from(to("127.4.0.1", IBGP), "127.4.0.2")})
	b.setPeers([]Peer{from(to("127.4.0.1", IBGP), "127.4.0.3")})
	x.setPeers([]Peer{pa, pb})
	x.waitUp(a.addr, b.addr)
	x.waitRoutes("10.244.1.0/26 via 127.4.0.2", "10.244.2.0/26 via 127.4.0.3")
	since := x.peer(a.addr).Since

	steps := []struct {
		name   string
		edit   func(p *Peer)
		routes []string
		resets bool
	}{
		{
			"accept more", func(p *Peer) { p.Import.Accept = []policy.PrefixRule{{Prefix: prefix("172.16.0.0/12")}} },
			[]string{"10.244.1.0/26 via 127.4.0.2", "10.244.2.0/26 via 127.4.0.3", "172.16.0.0/24 via 127.4.0.3"},
			false,
		},
		{
			"timers", func(p *Peer) { p.HoldTime = 60e9; p.Keepalive = 20e9 },
			[]string{"10.244.1.0/26 via 127.4.0.2", "10.244.2.0/26 via 127.4.0.3", "172.16.0.0/24 via 127.4.0.3"},
			false,
		},
		{
			"accept less", func(p *Peer) { p.Import.Accept = nil },
			[]string{"10.244.1.0/26 via 127.4.0.2", "10.244.2.0/26 via 127.4.0.3"},
			false,
		},
		{
			"families", func(p *Peer) { p.Families = []Family{IPv4, IPv6} },
			[]string{"10.244.1.0/26 via 127.4.0.2", "10.244.2.0/26 via 127.4.0.3"},
			true,
		},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			before := x.peer(b.addr).Since
			step.edit(&pb)
			x.setPeers([]Peer{pa, pb})
			if step.resets {
				eventually(t, func() string {
					if p := x.peer(b.addr); p.State != established || p.Since.Equal(before) {
						return fmt.Sprintf("peer not made anew: %s since %s", p.State, p.Since)
					}
					return ""
				})
			}
			x.waitRoutes(step.routes...)
			if got := x.peer(b.addr).Since; !step.resets && !got.Equal(before) {
				t.Errorf("the edited session was reset at %s", got)
			}
			if got := x.peer(a.addr); got.Flaps != 0 || !got.Since.Equal(since) {
				t.Errorf("the untouched session was reset: flaps %d since %s, want 0 since %s", got.Flaps, got.Since, since)
			}
		})
	}
	t.Run("remove", func(t *testing.T) {
		x.setPeers([]Peer{pa})
		x.waitRoutes("10.244.1.0/26 via 127.4.0.2")
		if got := x.peer(a.addr); got.Flaps != 0 || !got.Since.Equal(since) {
			t.Errorf("the untouched session was reset: %+v", got)
		}
		if got := x.peer(b.addr); got.Name != "" {
			t.Errorf("removed peer still listed: %+v", got)
		}
	})
}

// TestIPv6Session: a session between IPv6 addresses carries IPv6 routes.
func TestIPv6Session(t *testing.T) {
	config := func(id, a string) Config {
		c := testConfig(t, id)
		c.NodeAddress, c.NodeAddress6 = netip.Addr{}, addr(a)
		c.ListenAddresses = []netip.Addr{addr(a)}
		return c
	}
	n := startNodes(t, config("127.5.0.1", "fd00::1"), config("127.5.0.2", "fd00::2"))
	n[0].originate("fd00:244:0:1::/122")
	n[1].originate("fd00:244:0:2::/122")
	n[0].setPeers([]Peer{from(to("fd00::2", IBGP), "fd00::1")})
	n[1].setPeers([]Peer{from(to("fd00::1", IBGP), "fd00::2")})
	n[0].waitRoutes("fd00:244:0:2::/122 via fd00::2")
	n[1].waitRoutes("fd00:244:0:1::/122 via fd00::1")
}

// TestStartErrors: the error of a failed start names the fault, and the start can
// be repeated.
func TestStartErrors(t *testing.T) {
	busy, err := net.Listen("tcp", "127.6.0.1:1790")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(testConfig(t, "127.6.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	err = s.Start(t.Context())
	if !errors.Is(err, ErrPortBusy) || !strings.Contains(err.Error(), "1790") || strings.Contains(err.Error(), "\n") {
		t.Fatalf("busy port: got %v, want one line of ErrPortBusy with the port", err)
	}
	if err := busy.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatalf("start after the port became free: %v", err)
	}
	if err := s.Start(t.Context()); !errors.Is(err, ErrStarted) {
		t.Errorf("second start: got %v, want ErrStarted", err)
	}
	s.stop()
	if err := s.engine.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}

	away := testConfig(t, "127.6.0.1")
	away.ListenAddresses = []netip.Addr{addr("192.0.2.1")}
	s, err = New(away)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); !errors.Is(err, ErrNoAddress) {
		t.Errorf("absent address: got %v, want ErrNoAddress", err)
	}
	if err := s.Run(t.Context()); !errors.Is(err, ErrNotStarted) {
		t.Errorf("run before start: got %v, want ErrNotStarted", err)
	}
	if got := Engine(); !strings.HasPrefix(got, "gobgp ") {
		t.Errorf("Engine() = %q", got)
	}
}
