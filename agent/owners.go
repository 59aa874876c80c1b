package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"onlink/agent/owners"
	"onlink/agent/rooms"
	"onlink/bgp"
	"onlink/bgp/policy"
	"onlink/ipam"
)

// openOwners gives the owners of blocks to the fresh speaker before the first
// peer connects.
func (a *agent) openOwners(ctx context.Context) error {
	a.owners = owners.New(owners.Config{
		Registry: a.registry.Registry, Speaker: a.speaker, Networks: a.watch.Networks,
		Pools: func() []policy.Pool { return rooms.BGPPools(a.pools()) },
		Every: owners.Interval(a.registry.Registry, a.current().BGP.Reflector != nil), Moved: a.learn.moved, Log: a.log.With("part", "owners"),
	})
	var own []ipam.Block
	for _, b := range a.alloc.Blocks() {
		own = append(own, ipam.Block{CIDR: b.CIDR})
	}
	return a.owners.Open(ctx, own)
}

// announcedElsewhere returns a text that names a block announced by another node,
// or the reason that this cannot be decided; empty: no other node announces one.
func (a *agent) announcedElsewhere(ctx context.Context, blocks []netip.Prefix) string {
	peers := a.current().BGP.Peers
	if len(peers) > 0 && !slices.ContainsFunc(a.speaker.Peers(), func(p bgp.PeerStatus) bool { return p.State == established }) {
		return "no BGP session is up here, so it is unknown whether its blocks are still announced"
	}
	var who string
	err := a.learn.do(ctx, func() {
		if len(peers) > 0 && !a.learn.sync.done {
			who = "BGP is not in sync here yet, so it is unknown whether its blocks are still announced"
			return
		}
		for _, b := range blocks {
			for _, p := range a.learn.table.Paths(b) {
				if p.NextHop != a.id.Address && p.NextHop != a.id.Address6 {
					who = fmt.Sprintf("its block %v is still announced with next hop %v", b, p.NextHop)
					return
				}
			}
		}
	})
	if err != nil {
		return "it is unknown whether its blocks are still announced: " + err.Error()
	}
	return who
}
