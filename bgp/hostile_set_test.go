package bgp

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// connectRaw opens a TCP connection and reads the speaker's OPEN.
func connectRaw(t *testing.T, local, remote string) *rawPeer {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: patience}
	c, err := d.Dial("tcp", netip.AddrPortFrom(addr(remote), testPort).String())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if typ, _, err := readMessage(c); err != nil || typ != 1 {
		t.Fatalf("no OPEN: type %d, %v", typ, err)
	}
	return &rawPeer{t: t, conn: c}
}

// closing is how the session ends: with a NOTIFICATION ("3/1"), or "closed"
// for an end without one.
func (p *rawPeer) closing() string {
	got := p.ending()
	if got == io.EOF.Error() || strings.Contains(got, "reset by peer") {
		return "closed"
	}
	return got
}

// answer is "used" when the speaker took the OPEN, or else how it closes.
func (p *rawPeer) answer() string {
	for {
		typ, body, err := readMessage(p.conn)
		switch {
		case err == nil && typ == 4:
			return used
		case err == nil && typ == 3 && len(body) >= 2:
			return fmt.Sprintf("%d/%d", body[0], body[1])
		case err != nil && (err.Error() == io.EOF.Error() || strings.Contains(err.Error(), "reset by peer")):
			return "closed"
		case err != nil:
			return err.Error()
		}
	}
}

// TestHostileSet runs the generated set against one speaker: no attack ends
// anything but its own session, each ends as the RFCs say, and a route is used
// exactly when they say so.
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

	all := slices.Concat(attributeAttacks(), updateAttacks(), messageAttacks(), openAttacks())
	if len(all) < 300 {
		t.Errorf("%d attacks, want at least 300", len(all))
	}
	gate := make(chan struct{}, 24)
	t.Run("attacks", func(t *testing.T) {
		for i, a := range all {
			local := fmt.Sprintf("127.37.%d.%d", 1+i/200, 1+i%200)
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				gate <- struct{}{}
				defer func() { <-gate }()
				a.check(t, x, local, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(100 + i/4), byte(i%4) << 6}), 26))
			})
		}
	})
	x.waitRoutes("10.244.2.0/26 via 127.37.0.2")
	if got := x.peer(good.addr); got.Flaps != 0 || !got.Since.Equal(since) {
		t.Errorf("another session was touched: %+v", got)
	}
	eventually(t, func() string {
		if n := len(x.Peers()); n != 1 {
			return fmt.Sprintf("%d peers are known, want only the good one", n)
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

// check runs one attack from an address of its own. In a session that survives,
// a good route follows: when it is there, the attack has been dealt with.
func (a attack) check(t *testing.T, x *node, local string, marker netip.Prefix) {
	t.Helper()
	var p *rawPeer
	if a.open {
		p = connectRaw(t, local, "127.37.0.1")
		defer p.conn.Close()
	} else {
		p = dialRaw(t, local, "127.37.0.1")
	}
	if a.run != nil {
		a.run(p)
	} else {
		p.send(a.typ, a.body)
	}
	switch {
	case a.open && a.want != "5/2": // a KEEPALIVE comes before that
		if got := p.answer(); got != a.want {
			t.Errorf("ended with %q, want %q", got, a.want)
		}
	case a.want != used && a.want != withdrawn:
		if got := p.closing(); got != a.want {
			t.Errorf("ended with %q, want %q", got, a.want)
		}
	default:
		b := marker.Addr().As4()
		p.send(2, updateBody(0, nil, append([]byte{26}, b[:]...)))
		eventually(t, func() string {
			if !has(x, marker, local) {
				return "the session did not survive: the next route did not arrive"
			}
			return ""
		})
		if got := has(x, netip.MustParsePrefix("10.244.99.0/26"), local); got != (a.want == used) {
			t.Errorf("the route is used: %t, want it %s", got, a.want)
		}
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
