package bgp

import (
	"fmt"
	"net/netip"
	"testing"

	"onlink/bgp/hostile"
	"onlink/bgp/policy"
)

// attacks are those on a speaker of this package's tests.
var attacks = hostile.Set{Self: addr("127.37.0.1"), Hop: addr("127.37.0.7"), AS: 64512}

// Parts for tests of single faults; see package hostile.
var (
	whole       = hostile.Whole
	reach6      = hostile.Reach6
	updateBody  = attacks.UpdateBody
	openBody    = attacks.OpenBody
	hostileNLRI = hostile.NLRI
)

// connectRaw opens a TCP connection and reads the speaker's OPEN.
func connectRaw(t *testing.T, local, remote string) *rawPeer {
	t.Helper()
	p, err := hostile.Connect(t.Context(), addr(local), netip.AddrPortFrom(addr(remote), testPort), patience)
	if err != nil {
		t.Fatal(err)
	}
	return &rawPeer{t: t, conn: p.Conn}
}

// closing is how the session ends: with a NOTIFICATION ("3/1"), or "closed"
// for an end without one.
func (p *rawPeer) closing() string { return (&hostile.Peer{Conn: p.conn}).Closing() }

// answer is "used" when the speaker accepted the OPEN, or else how it closes.
func (p *rawPeer) answer() string { return (&hostile.Peer{Conn: p.conn}).Answer() }

// TestHostileSet runs the generated set against one speaker: no attack ends
// anything but its own session, each ends as the RFCs require, and a route is used
// exactly when they require it.
func TestHostileSet(t *testing.T) {
	needsPatches(t)
	n := startNodes(t, testConfig(t, "127.37.0.1"), testConfig(t, "127.37.0.2"))
	x, good := n[0], n[1]
	good.originate("10.244.2.0/26")
	clients := clientsOf("127.37.0.0/16")
	clients.Families = []Family{IPv4, IPv6}
	x.setPeers(nil, clients)
	good.setPeers([]Peer{from(to("127.37.0.1", IBGP), "127.37.0.2")})
	x.waitRoutes("10.244.2.0/26 via 127.37.0.2")
	since := x.peer(good.addr).Since
	// Everything that is used is passed on to it as well, with AS numbers of two
	// octets.
	old := listening(openOnly(t, "127.37.0.3", "127.37.0.1", 0, capFamilies...), "127.37.0.3", nil)

	all := attacks.All()
	if len(all) < 300 {
		t.Errorf("%d attacks, want at least 300", len(all))
	}
	gate := make(chan struct{}, 24)
	t.Run("attacks", func(t *testing.T) {
		for i, a := range all {
			local := fmt.Sprintf("127.37.%d.%d", 1+i/200, 1+i%200)
			t.Run(a.Name, func(t *testing.T) {
				t.Parallel()
				gate <- struct{}{}
				defer func() { <-gate }()
				check(t, a, x, local, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(100 + i/4%128), byte(i%4) << 6}), 26))
			})
		}
	})
	x.waitRoutes("10.244.2.0/26 via 127.37.0.2")
	if got := x.peer(good.addr); got.Flaps != 0 || !got.Since.Equal(since) {
		t.Errorf("another session was touched: %+v", got)
	}
	if got := x.peer(old.addr); got.State != established || got.Flaps != 0 {
		t.Errorf("the session of the old speaker was touched: %+v", got)
	}
	if n := x.Faults().Panics; n != 0 {
		t.Errorf("%d panics were contained, want none", n)
	}
	eventually(t, func() string {
		if n := x.sessions(); n != 2 {
			return fmt.Sprintf("%d peers are known, want only the good ones", n)
		}
		return ""
	})
	for _, p := range x.lost() {
		if p == prefix("10.244.2.0/26") {
			t.Error("another peer's route was lost meanwhile")
		}
	}
	t.Logf("%d attacks", len(all))
}

// TestHostileExternal plays a third of the set from another AS. Some attacks are no
// faults there, and others are; the test requires that no other session is harmed.
func TestHostileExternal(t *testing.T) {
	needsPatches(t)
	w := startWitnessed(t, "127.60")
	tor := Dynamic{Name: "tors", Prefix: prefix("127.60.0.0/16"), Session: Session{
		Role: EBGP, ASN: 64513, Families: []Family{IPv4, IPv6}, Import: policy.Import{Accept: []policy.PrefixRule{{Prefix: prefix("10.244.0.0/16"), Ge: 16, Le: 32}}},
	}}
	good := to("127.60.0.2", Client)
	good.Passive = true
	w.setPeers([]Peer{good}, tor)
	eventually(t, func() string { return notUp(w.peer(w.good.addr)) })
	w.waitRoutes(w.route)
	w.since = w.peer(w.good.addr).Since
	flaps := w.peer(w.good.addr).Flaps
	set := hostile.Set{Self: addr("127.60.0.1"), Hop: addr("127.60.0.7"), AS: 64513}
	gate := make(chan struct{}, 24)
	t.Run("attacks", func(t *testing.T) {
		for i, a := range set.All() {
			if i%3 != 0 {
				continue
			}
			t.Run(a.Name, func(t *testing.T) {
				t.Parallel()
				gate <- struct{}{}
				defer func() { <-gate }()
				local, speaker := addr(fmt.Sprintf("127.60.%d.%d", 1+i/200, 1+i%200)), netip.AddrPortFrom(set.Self, testPort)
				connect := set.Establish
				if a.Open {
					connect = hostile.Connect
				}
				p, err := connect(t.Context(), local, speaker, patience)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Conn.Close()
				a.Want = hostile.Any
				if got, _ := p.Play(a); got != hostile.Any {
					t.Error(got)
				}
			})
		}
	})
	if got := w.peer(w.good.addr); got.State != established || got.Flaps != flaps || !got.Since.Equal(w.since) {
		t.Errorf("the good session suffered: %+v", got)
	}
	if n := w.Faults().Panics; n != 0 {
		t.Errorf("%d panics were contained, want none", n)
	}
}

// check runs one attack from an address of its own. In a session that survives,
// a good route follows: once it is there, the speaker has handled the attack.
func check(t *testing.T, a hostile.Attack, x *node, local string, marker netip.Prefix) {
	t.Helper()
	var p *hostile.Peer
	if a.Open {
		p = &hostile.Peer{Conn: connectRaw(t, local, "127.37.0.1").conn}
	} else {
		p = &hostile.Peer{Conn: dialRaw(t, local, "127.37.0.1").conn}
	}
	defer p.Conn.Close()
	got, survives := p.Play(a)
	if !survives {
		if got != a.Want {
			t.Errorf("ended with %q, want %q", got, a.Want)
		}
		return
	}
	b := marker.Addr().As4()
	p.Send(2, updateBody(0, nil, append([]byte{26}, b[:]...)))
	eventually(t, func() string {
		if !has(x, marker, local) {
			return "the session did not survive: the next route did not arrive"
		}
		return ""
	})
	if got := has(x, netip.MustParsePrefix("10.244.99.0/26"), local); got != (a.Want == hostile.Used) {
		t.Errorf("the route is used: %t, want it %s", got, a.Want)
	}
}

// has reports whether x has a path to prefix from the peer.
func has(x *node, prefix netip.Prefix, peer string) bool {
	for _, path := range x.Paths(x.t.Context(), prefix) {
		if path.Peer == netip.MustParseAddr(peer) {
			return true
		}
	}
	return false
}
