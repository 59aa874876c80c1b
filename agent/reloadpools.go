package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"onlink/agent/config"
	"onlink/ipam"
	"onlink/tunnel"
)

// applyPools changes the pools: what addresses are taken from, how routes into
// them go, what is masqueraded, and what iBGP peers may announce. ipam comes
// first, because it alone may refuse: a pool whose addresses are in use stays.
func (a *agent) applyPools(ctx context.Context, c *config.Config) error {
	wanted := tunnelsWanted(c, a.id)
	if !slices.EqualFunc(wanted, a.learn.wanted, func(x, y tunnel.Desired) bool { return x.Name == y.Name }) {
		return fmt.Errorf("a pool with another kind of tunnel %w", errRestart)
	}
	pools := ipamPools(c.Pools, c.Node.Labels)
	if err := a.alloc.SetPools(pools); err != nil {
		return err
	}
	if split, ok := a.registry.(*ipam.Split); ok {
		split.SetPools(pools)
	}
	ranges, _ := poolRanges(c.Pools)
	a.guard.setPools(ranges)
	if err := a.speaker.SetPools(ctx, bgpPools(c.Pools, a.owners.blocks())); err != nil {
		return err
	}
	return a.learn.do(ctx, func() {
		a.learn.table.SetPools(ribPools(c.Pools, a.learn.wanted))
		a.learn.filter.setPools(c.Pools)
		a.learn.nodes.checkAt = time.Time{} // brings the filter to it now
	})
}

// pools are those in force.
func (a *agent) pools() []config.Pool {
	if a.reload == nil {
		return a.cfg.Pools
	}
	a.reload.mu.Lock()
	defer a.reload.mu.Unlock()
	return a.reload.last.Pools
}
