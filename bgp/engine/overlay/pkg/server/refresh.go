// Part of the patch limits/refresh-pace.

package server

import (
	"sync"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// refreshPause is the least time between two full answers to the ROUTE-REFRESH
// messages of a peer for one family.
const refreshPause = 5 * time.Second

// refreshes paces what a session's ROUTE-REFRESH messages (RFC 2918) ask for:
// 23 bytes each, and each the whole table. The first is passed on at once. Those
// of the pause after it are answered by one more at its end: the peer is told
// everything after the last one it sent, as it asked.
type refreshes struct {
	pass func(*fsmMsg)

	mu      sync.Mutex // guards all below
	last    map[bgp.RouteFamily]time.Time
	due     map[bgp.RouteFamily]*time.Timer
	stopped bool
}

func newRefreshes(pass func(*fsmMsg)) *refreshes {
	return &refreshes{pass: pass, last: make(map[bgp.RouteFamily]time.Time), due: make(map[bgp.RouteFamily]*time.Timer)}
}

// take passes a message on, now or later, or drops it because one of its family
// will be.
func (r *refreshes) take(f bgp.RouteFamily, m *fsmMsg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.due[f] != nil {
		return
	}
	if wait := refreshPause - time.Since(r.last[f]); wait > 0 {
		r.due[f] = time.AfterFunc(wait, func() { r.later(f, m) })
		return
	}
	r.last[f] = time.Now()
	r.pass(m)
}

func (r *refreshes) later(f bgp.RouteFamily, m *fsmMsg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return
	}
	r.due[f], r.last[f] = nil, time.Now()
	r.pass(m)
}

// stop ends it with the session.
func (r *refreshes) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	for _, t := range r.due {
		if t != nil {
			t.Stop()
		}
	}
}
