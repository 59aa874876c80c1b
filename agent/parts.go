package agent

import (
	"context"
	"fmt"
	"slices"

	"onlink/agent/config"
	"onlink/agent/owners"
	"onlink/agent/reload"
	"onlink/agent/rooms"
	"onlink/tunnel"
)

// parts returns the parts of this agent that follow a changed file, and the keys
// that only a restart can change. The pools come first, because ipam may refuse
// them: a pool whose addresses are in use stays.
func (a *agent) parts() reload.Parts {
	return reload.Parts{
		{Name: "pools", Keys: []string{"pools", "node.labels"}, Check: a.checkTunnels, Apply: a.applyPools},
		{
			Name: "bgp.peers", Apply: a.applyPeers,
			Keys: []string{
				"bgp.peers", "bgp.groups", "bgp.mesh", "bgp.filters",
				"bgp.reflector.clients", "bgp.reflector.passwordFile", "bgp.reflector.import", "bgp.reflector.export",
			},
		},
		// BFD has no key of its own: each peer carries its settings.
		{Name: "bgp.peers bfd", Apply: func(_ context.Context, c *config.Effective) error {
			return a.bfd.Set(rooms.BFD(c.BGP.Peers))
		}},
		{Name: "bgp.originate", Keys: []string{"bgp.originate"}, Apply: func(_ context.Context, c *config.Effective) error {
			a.orig.configure(c.BGP.Originate, c.BGP.Aggregates())
			return nil
		}},
		{Name: "bgp.bmp", Keys: []string{"bgp.bmp"}, Apply: func(_ context.Context, c *config.Effective) error {
			a.stations.Set(c.BGP.BMP)
			return nil
		}},
		{Name: "cni.sysctls", Keys: []string{"cni.sysctls"}, Apply: func(_ context.Context, c *config.Effective) error {
			a.cni.SetSysctls(c.CNI.Sysctls)
			return nil
		}},
		{Name: "log.level", Keys: []string{"log.level"}, Apply: func(_ context.Context, c *config.Effective) error {
			a.logs.Configure(c.Log.Level)
			return nil
		}},
		{Name: "api.glass", Keys: []string{"api.glass", "api.glassOpen"}, Apply: func(_ context.Context, c *config.Effective) error { return a.glass.Set(c.API.Glass) }},
		{Name: "reload", Keys: []string{"reload"}, Apply: reload.Live},
		{
			Name: "restart",
			Keys: []string{
				"node", "bgp.asn", "bgp.routerID", "bgp.listen", "bgp.reflector", "ipam", "tunnel", "fib", "api.admin", "api.metrics",
				"cni.socket", "cni.install", "log", "paths",
			},
		},
	}
}

// checkTunnels refuses pools that need other tunnel devices: those of the start
// are built into the guard, the pods' MTU and the kernel's routes.
func (a *agent) checkTunnels(last, next *config.Effective) error {
	same := func(x, y tunnel.Desired) bool { return x.Name == y.Name }
	if !slices.EqualFunc(rooms.Tunnels(&last.Config, a.id), rooms.Tunnels(&next.Config, a.id), same) {
		return fmt.Errorf("a pool with another kind of tunnel %w", reload.ErrRestart)
	}
	return nil
}

// applyPools changes the pools: the ranges that addresses are taken from, the
// kind of the routes into them, the masquerading, and the prefixes that iBGP
// peers may announce. ipam comes first, because it alone may refuse.
func (a *agent) applyPools(ctx context.Context, c *config.Effective) error {
	pools := rooms.IPAM(c.Pools, c.Node.Labels)
	if err := a.alloc.SetPools(pools); err != nil {
		return err
	}
	a.registry.SetPools(pools)
	ranges, _ := rooms.Ranges(c.Pools)
	a.served.SetPools(ranges)
	if err := a.speaker.SetPools(ctx, owners.Lengths(rooms.BGPPools(c.Pools), a.owners.Blocks())); err != nil {
		return err
	}
	return a.learn.do(ctx, func() {
		a.learn.table.SetPools(rooms.RIB(c.Pools, a.learn.plane.Wanted()))
		a.learn.plane.Filter.SetPools(rooms.Ranges(c.Pools))
		a.learn.plane.Recheck() // brings the filter to the new pools now
	})
}

// applyPeers changes the sessions, and the bounds of the routes that their peers
// may make us install.
func (a *agent) applyPeers(ctx context.Context, c *config.Effective) error {
	peers, dynamic, err := rooms.Peers(c)
	if err != nil {
		return err
	}
	if err := a.speaker.SetPeers(ctx, peers, dynamic); err != nil {
		return err
	}
	return a.learn.do(ctx, func() {
		a.learn.peers = c.BGP.Peers
		a.learn.table.SetPermitted(a.learn.permit())
	})
}
