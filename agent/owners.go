package agent

import (
	"context"

	"onlink/agent/owners"
	"onlink/agent/rooms"
	"onlink/bgp/policy"
	"onlink/ipam"
)

// openOwners informs the fresh speaker before the first peer.
func (a *agent) openOwners(ctx context.Context) error {
	a.owners = owners.New(owners.Config{
		Registry: a.registry, Speaker: a.speaker, Networks: a.watch.Networks,
		Pools: func() []policy.Pool { return rooms.BGPPools(a.pools()) },
		Every: owners.Interval(a.registry, a.current().BGP.Reflector != nil), Moved: a.learn.moved, Log: a.log.With("part", "owners"),
	})
	var own []ipam.Block
	for _, b := range a.alloc.Blocks() {
		own = append(own, ipam.Block{CIDR: b.CIDR})
	}
	return a.owners.Open(ctx, own)
}
