package agent

import (
	"slices"
	"time"

	"onlink/agent/state"
	"onlink/bgp"
)

// established is RFC 4271's name of the state of a session that is up.
const established = state.Established

const (
	syncTimeout = 15 * time.Second // how long a live peer that sends no End-of-RIB delays the sweep
	staleBound  = 2 * time.Minute  // how long the routes of a previous run stay while no session is up
)

// syncGate opens when a restarted agent may call a route stale: when its peers
// have sent their tables, or a deadline has passed. It belongs to the learn loop.
type syncGate struct {
	started time.Time
	firstUp time.Time // when a session was first seen established
	expects bool      // peers are configured, or the kernel holds routes of a previous run
	kept    bool      // the kernel holds routes of a previous run
	done    bool
	took    time.Duration
}

// pass reports true once: when the gate opens.
func (g *syncGate) pass(synced func() (bool, []string), peers func() []bgp.PeerStatus) bool {
	if g.done {
		return false
	}
	now := time.Now()
	up := slices.ContainsFunc(peers(), func(p bgp.PeerStatus) bool { return p.State == established })
	if up && g.firstUp.IsZero() {
		g.firstUp = now
	}
	done, _ := synced()
	switch {
	case !g.expects:
	case up && done:
	case up && now.Sub(g.firstUp) > syncTimeout:
	case !up && now.Sub(g.started) > staleBound:
	case !up && !g.kept && now.Sub(g.started) > syncTimeout: // no route to sweep, no peer to wait for
	default:
		return false
	}
	g.done, g.took = true, now.Sub(g.started)
	return true
}
