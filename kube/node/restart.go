package node

import (
	"math/rand/v2"
	"time"
)

// A change that needs a restart of the agents reaches all nodes at once; these are
// the times over which the restarts spread, so that at each moment most speakers of
// the cluster run. Where every node has a session with every other there are few.
const (
	spread     = 30 * time.Second
	meshSpread = 5 * time.Second
)

// restarts plans the restart of the agent for a change that needs one. It is the same
// for every rendering until one is taken: objects that change often, or just when it is
// due, would put it off for ever.
type restarts struct {
	at time.Time // zero: none is planned
}

// due reports whether the agent may restart now.
func (r *restarts) due() bool { return !r.at.IsZero() && !time.Now().Before(r.at) }

// plan returns in how long the agent is to restart.
func (r *restarts) plan(mesh bool) time.Duration {
	most := spread
	if mesh {
		most = meshSpread
	}
	if r.at.IsZero() {
		r.at = time.Now().Add(rand.N(most)) //nolint:gosec // it spreads load, and keeps no secret
	}
	return max(time.Until(r.at), time.Millisecond)
}
