package bgp

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// TestPassword: with the password a session comes up; without it, or with
// another, the kernel drops the SYN and it does not. Removing the password
// lets the peer in without one.
func TestPassword(t *testing.T) {
	n := startNodes(t, testConfig(t, "127.40.0.1"), testConfig(t, "127.40.0.2"), testConfig(t, "127.40.0.3"), testConfig(t, "127.40.1.3"))
	rr, keyed, wrong, dyn := n[0], n[1], n[2], n[3]
	with := func(p Peer, password string) Peer {
		p.Password = password
		return p
	}
	passive := func(p Peer) Peer {
		p.Passive = true
		return p
	}
	clients := clientsOf("127.40.1.0/24")
	clients.Password = "rack"
	static := func(a, password string) Peer { return passive(with(to(a, Client), password)) }
	rr.setPeers([]Peer{static("127.40.0.2", "right"), static("127.40.0.3", "right")}, clients)
	keyed.originate("10.244.2.0/26")
	keyed.setPeers([]Peer{with(from(to("127.40.0.1", IBGP), "127.40.0.2"), "right")})
	wrong.setPeers([]Peer{with(from(to("127.40.0.1", IBGP), "127.40.0.3"), "guess")})
	dyn.setPeers([]Peer{with(from(to("127.40.0.1", IBGP), "127.40.1.3"), "rack")})
	rr.waitUp(keyed.addr, dyn.addr)

	for _, local := range []string{"127.40.0.2", "127.40.0.3", "127.40.1.9"} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
		c, err := d.DialContext(ctx, "tcp", "127.40.0.1:1790")
		cancel()
		if err == nil {
			_ = c.Close() // the fault is that it exists
			t.Errorf("a connection from %s without the password was accepted", local)
		}
	}
	if got := rr.peer(wrong.addr); got.State == established || got.Flaps != 0 {
		t.Errorf("a peer with another password came up: %+v", got)
	}
	eventually(t, func() string {
		if got := wrong.peer(rr.addr); !strings.HasPrefix(got.LastError, "connect: ") {
			return fmt.Sprintf("last error %q, want the connect error", got.LastError)
		}
		return ""
	})

	since := rr.peer(keyed.addr).Since
	rr.setPeers([]Peer{static("127.40.0.2", "right"), static("127.40.0.3", "")}, clients)
	wrong.setPeers([]Peer{from(to("127.40.0.1", IBGP), "127.40.0.3")})
	rr.waitUp(wrong.addr)
	if got := rr.peer(keyed.addr).Since; !got.Equal(since) {
		t.Error("the other session was reset by the change of a password")
	}
}
