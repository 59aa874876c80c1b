package node

import (
	"context"
	"math/rand/v2"
	"time"

	"onlink/kube/render"
)

// recount is about how often the Nodes are counted in a cluster that had too many
// for a mesh.
const recount = 5 * time.Minute

// crowd is whether the cluster has more Nodes than a mesh may have. Without reflectors
// every node would watch all Nodes, which costs the square of their number: so none
// does then, and each counts at times whether they are fewer again.
type crowd struct {
	on      bool
	next    time.Time  // of the count
	counted chan tally // of the count that is on its way, with room for it; nil: none is
}

// tally is the outcome of a count.
type tally struct {
	many bool
	err  error
}

// found notes that there are too many Nodes.
func (c *crowd) found(now time.Time) {
	c.on = true
	c.next = now.Add(recount/2 + rand.N(recount)) //nolint:gosec // it spreads load, and keeps no secret
}

// count counts the Nodes when that is due, beside the loop: a slow API server delays no
// announcement. It returns when it is to be called again; 0: when something changes.
func (d *desire) count(ctx context.Context) time.Duration {
	if !d.crowd.on {
		return 0
	}
	now := time.Now()
	if d.crowd.counted != nil {
		select {
		case t := <-d.crowd.counted:
			d.crowd.counted = nil
			switch {
			case t.err != nil:
				d.log.Debug("failed to count Nodes", "err", t.err) // the watches say that the API server is away
			case !t.many:
				d.crowd.on = false
				return 0
			}
		default:
			return 0 // its end wakes the loop
		}
	}
	if now.Before(d.crowd.next) {
		return d.crowd.next.Sub(now)
	}
	d.crowd.found(now)
	counted := make(chan tally, 1)
	d.crowd.counted = counted
	d.objects.running.Go(func() {
		many, err := d.objects.moreNodes(ctx, render.MaxMesh)
		counted <- tally{many, err}
		d.input.ring()
	})
	return 0
}
