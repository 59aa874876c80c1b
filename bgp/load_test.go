package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestManyPaths: a prefix that more peers announce than one machine word has bits
// is accepted from all of them, and removed with the last.
func TestManyPaths(t *testing.T) {
	needsPatches(t)
	n := startNodes(t, withoutPools(testConfig(t, "127.46.0.1")))[0]
	n.setPeers(nil, anything(clientsOfBoth("127.46.1.0/24")))
	const clients = 70
	prefixes := []netip.Prefix{prefix("10.244.0.0/26"), prefix("fd00:244::/64")}
	var all []*rawClient
	for i := range clients {
		all = append(all, connectClient(t, fmt.Sprintf("127.46.1.%d", i+1), "127.46.0.1"))
	}
	expect := func(want int) {
		t.Helper()
		eventually(t, func() string {
			for _, p := range prefixes {
				n.mu.Lock()
				paths := n.table[p]
				n.mu.Unlock()
				if len(paths) != want {
					return fmt.Sprintf("%s has %d paths, want %d", p, len(paths), want)
				}
			}
			return ""
		})
	}
	for range 2 { // released numbers are used again
		for _, c := range all {
			c.announce(0, prefixes...)
		}
		expect(clients)
		for _, c := range slices.Backward(all[1:]) {
			for _, p := range prefixes {
				c.withdraw(p)
			}
		}
		expect(1)
		for _, p := range prefixes {
			all[0].withdraw(p)
		}
		expect(0)
	}
}

// TestHoldTime: every message of a peer restarts the hold timer, and silence for
// the hold time ends the session (RFC 4271 section 4.4).
func TestHoldTime(t *testing.T) {
	n := startNodes(t, testConfig(t, "127.46.0.2"))[0]
	n.setPeers(nil, clientsOf("127.46.2.0/24"))
	const hold = 3 * time.Second
	p := openHeld(t, "127.46.2.1", "127.46.0.2", uint16(hold/time.Second))
	ended := make(chan string, 1)
	go func() { ended <- p.ending() }()
	tick := time.NewTicker(hold / 15)
	defer tick.Stop()
	attrs := joined(attrOrigin, attrASPath, attrNextHop, attrLocalPref)
	var last time.Time
	for begin := time.Now(); time.Since(begin) < 2*hold; {
		select {
		case why := <-ended:
			t.Fatalf("a talking peer's session ended: %s", why)
		case last = <-tick.C:
			p.update(attrs, someNLRI)
		}
	}
	select {
	case why := <-ended:
		if silent := time.Since(last); why != "4/0" || silent < hold-hold/10 {
			t.Errorf("session ended after %v with %s, want 4/0 after %v", silent, why, hold)
		}
	case <-time.After(patience):
		t.Error("a silent peer's session is still up")
	}
}
