package agent

import (
	"context"
	"errors"
	"time"

	"onlink/cni"
)

// sweepEvery is the interval of the search for pods that ended without a DEL.
// It looks at one path per pod.
const sweepEvery = 5 * time.Second

// collectGarbage frees the addresses of pods that ended without a DEL, until
// ctx ends: a runtime that crashed, or an ADD whose agent was killed before it
// answered.
func (a *agent) collectGarbage(ctx context.Context, server *cni.Server) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		freed, err := server.Sweep(ctx)
		a.swept.Add(uint64(len(freed)))
		err = errors.Join(err, a.endQuarantines())
		if err != nil && !failing && ctx.Err() == nil {
			a.log.Warn("addresses of ended pods not freed", "err", err)
		}
		failing = err != nil
	}
}
