package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"onlink/bgp"
)

// TestSyncGate walks the times at which a restarted agent may call a route of its
// previous run stale: after the tables of all live peers have arrived, and never
// held up by a dead one.
func TestSyncGate(t *testing.T) {
	up := []bgp.PeerStatus{{State: established}, {State: "Active"}}
	down := []bgp.PeerStatus{{State: "Active"}, {State: "Idle"}}
	for _, c := range []struct {
		name     string
		expects  bool
		kept     bool
		peers    []bgp.PeerStatus
		synced   bool
		earliest time.Duration // still closed just before, open at
	}{
		{"no peers, no routes", false, false, nil, true, 0},
		{"live peer told all", true, true, up, true, 0},
		{"live peer sends no End-of-RIB", true, true, up, false, syncTimeout},
		{"nobody is up, routes are kept", true, true, down, true, staleBound},
		{"nobody is up, nothing to sweep", true, false, down, true, syncTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := syncGate{started: time.Now(), expects: c.expects, kept: c.kept}
				synced := func() (bool, []string) { return c.synced, nil }
				peers := func() []bgp.PeerStatus { return c.peers }
				var opened time.Duration = -1
				for at := time.Duration(0); at <= staleBound+5*time.Second; at += time.Second {
					if g.pass(synced, peers) {
						if opened >= 0 {
							t.Fatal("opened twice")
						}
						opened = at
					}
					time.Sleep(time.Second) // synctest's clock
				}
				if opened < c.earliest || opened > c.earliest+time.Second {
					t.Errorf("opened after %v, want %v", opened, c.earliest)
				}
			})
		})
	}
}
