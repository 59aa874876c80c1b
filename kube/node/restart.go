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

// restarts plans the restart of the agent for a change that needs one.
type restarts struct {
	hash string // of the rendering; "": none is planned
	at   time.Time
}

// due reports whether the agent may restart for a rendering now.
func (r *restarts) due(hash string) bool { return r.hash == hash && !time.Now().Before(r.at) }

// plan returns in how long the agent is to restart for a rendering. Another
// rendering does not move a planned restart: objects that change often would put
// it off for ever.
func (r *restarts) plan(hash string, mesh bool) time.Duration {
	most := spread
	if mesh {
		most = meshSpread
	}
	if r.hash == "" || !time.Now().Before(r.at) {
		r.at = time.Now().Add(rand.N(most)) //nolint:gosec // it spreads load, and keeps no secret
	}
	r.hash = hash
	return max(time.Until(r.at), time.Millisecond)
}
