package cni

import (
	"maps"
	"sync"
	"time"

	"onlink/internal/histogram"
)

// Stats counts the work of a [Server] since its start.
type Stats struct {
	Verbs  map[string]VerbStats // by ADD, DEL, CHECK, GC and STATUS; those that were called
	Ending int                  // pods that DEL has disconnected and that are not removed yet
	Ended  uint64               // pods that were removed
	Mended uint64               // how often a pod's host end was mended, see [Server.Look]
}

// VerbStats counts the calls of one verb.
type VerbStats struct {
	Served, Failed uint64
	Took           histogram.Histogram // how long each call took in the agent
}

// counters are the server's counts.
type counters struct {
	mu    sync.Mutex
	verbs map[string]VerbStats // guarded by mu
}

func (c *counters) count(verb string, took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.verbs == nil {
		c.verbs = map[string]VerbStats{}
	}
	v := c.verbs[verb]
	v.Took.Observe(took, 1)
	if err != nil {
		v.Failed++
	} else {
		v.Served++
	}
	c.verbs[verb] = v
}

// verbStats returns a copy of the counts.
func (c *counters) verbStats() map[string]VerbStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.verbs)
}
