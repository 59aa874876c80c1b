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
	syncTimeout = 15 * time.Second // a live peer that sends no End-of-RIB delays the sweep this long
	staleBound  = 2 * time.Minute  // with no live peer at all the old routes are kept this long
)

// syncGate tells when a restarted agent knows enough to call a route stale.
// It belongs to the learn loop.
type syncGate struct {
	started time.Time
	firstUp time.Time // when the first session was seen up
	expects bool      // peers are configured, or routes of a previous run are there
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
	case !up && !g.kept && now.Sub(g.started) > syncTimeout: // nothing to sweep, nobody to wait for
	default:
		return false
	}
	g.done, g.took = true, now.Sub(g.started)
	return true
}
