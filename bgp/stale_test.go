package bgp

import (
	"net"
	"testing"
	"time"
)

// restarts is the graceful restart capability of IPv4: with the F bit or not,
// restart time 4095 s.
func restarts(kept bool) []byte {
	b := []byte{64, 6, 0x0f, 0xff, 0, 1, 1, 0}
	if kept {
		b[7] = 0x80
	}
	return b
}

// TestStaleBound: the routes of a peer that restarts stay only if its new OPEN has
// the F bit, until its End-of-RIB, and never longer than our bound.
func TestStaleBound(t *testing.T) {
	needsPatches(t)
	const self, other = "127.63.0.1", "127.63.0.2"
	x := startNodes(t, testConfig(t, self))[0]
	peer := to(other, Client)
	peer.Passive = true
	x.setPeers([]Peer{peer})
	// There is no other way to set the engine's stale-routes-time.
	if err := x.engine.RemoveNeighbor(addr(other)); err != nil {
		t.Fatal(err)
	}
	with := x.Speaker.sessions.neighbor(x.Speaker.sessions.want.peers[addr(other)], false)
	with.StaleRoutes = 10 * time.Second
	if err := x.engine.AddNeighbor(with); err != nil {
		t.Fatal(err)
	}

	stale := func(name string, caps ...byte) *rawPeer {
		t.Helper()
		p := dialRaw(t, other, self, restarts(true)...)
		p.send(2, updateBody(0, nil, hostileNLRI))
		eventually(t, func() string {
			if !has(x, prefix("10.244.99.0/26"), other) {
				return name + ": the route is not there"
			}
			return ""
		})
		if err := p.conn.(*net.TCPConn).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		if err := p.conn.Close(); err != nil {
			t.Fatal(err)
		}
		return dialRaw(t, other, self, caps...)
	}
	gone := func(name string) {
		t.Helper()
		eventually(t, func() string {
			if has(x, prefix("10.244.99.0/26"), other) {
				return name + ": the route is still there"
			}
			return ""
		})
	}
	marker := func(p *rawPeer) {
		t.Helper()
		p.send(2, updateBody(0, nil, []byte{26, 10, 244, 100, 0}))
		eventually(t, func() string {
			if !has(x, prefix("10.244.100.0/26"), other) {
				return "the session is not up"
			}
			return ""
		})
	}

	p := stale("without graceful restart")
	gone("without graceful restart")
	_ = p.conn.Close() // as the others: the next one is dialled again
	p = stale("forwarding state lost", restarts(false)...)
	gone("forwarding state lost")
	_ = p.conn.Close()

	p = stale("forwarding state kept", restarts(true)...)
	marker(p)
	if !has(x, prefix("10.244.99.0/26"), other) {
		t.Error("the route was dropped, though its forwarding state was kept")
	}
	p.send(2, []byte{0, 0, 0, 0})
	gone("after End-of-RIB")
	_ = p.conn.Close()

	p = stale("no End-of-RIB", restarts(true)...)
	marker(p)
	gone("no End-of-RIB")
	if st, _, err := x.engine.Neighbor(addr(other)); err != nil || st.PeerRestart != 10 {
		t.Errorf("routes are kept for %d s, want 10: %v", st.PeerRestart, err)
	}
	_ = p.conn.Close()
}
