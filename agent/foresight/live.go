// Package foresight gives a forecast the live state of the agent: it implements
// [forecast.Agent] over the rooms, and adds the mistakes of the file. It decides
// nothing, and changes nothing.
package foresight

import (
	"context"
	"net/netip"
	"slices"

	"onlink/agent/config"
	"onlink/agent/forecast"
	"onlink/agent/node"
	"onlink/agent/owners"
	"onlink/agent/preflight"
	"onlink/agent/rooms"
	"onlink/bgp"
	"onlink/fib/underlay"
	"onlink/ipam"
	"onlink/rib"
)

// Live is the running agent.
type Live struct {
	ID        node.Identity
	Addresses func() []underlay.Address
	Alloc     *ipam.Allocator
	Owners    *owners.Watch
	Speaker   bgp.Operator
	// Contributed returns the aggregates around own prefixes, Origins the announcements of
	// both now.
	Contributed func(aggregates, own []netip.Prefix) []netip.Prefix
	Origins     func(own, sums []netip.Prefix) []bgp.Origin
	// Copy returns a copy of the inputs of the decision, and how next hops are reached.
	Copy func(ctx context.Context) (rib.Inputs, rib.Resolver, error)
	// Permit returns the bounds of learned routes for rules and pools.
	Permit func(peers []config.Peer, pools []netip.Prefix) rib.Permit
}

// Forecast returns what the agent would do with a configuration, with so many items in
// each list.
func (l *Live) Forecast(ctx context.Context, next *config.Effective, items int) (*forecast.Result, error) {
	r, err := forecast.Of(ctx, l, next, items)
	if err != nil {
		return nil, err
	}
	for _, e := range preflight.Running(next.File(), l.Addresses()) {
		r.Mistakes = append(r.Mistakes, e.Error())
	}
	return r, nil
}

// Desire implements [forecast.Agent]: it is what the parts would be given.
func (l *Live) Desire(next *config.Effective) (bgp.Desire, error) {
	peers, dynamic, err := rooms.Peers(next)
	if err != nil {
		return bgp.Desire{}, err
	}
	own := slices.Concat(l.blocksIn(next.Pools), next.BGP.Originate)
	origins := l.Origins(own, l.Contributed(next.BGP.Aggregates(), own))
	for _, o := range l.Speaker.Origins() {
		if o.Service { // of announcements, which no file has
			origins = append(origins, o)
		}
	}
	return bgp.Desire{Peers: peers, Dynamics: dynamic, Pools: owners.Lengths(rooms.BGPPools(next.Pools), l.Owners.Blocks()), Origins: origins}, nil
}

// blocksIn returns the confirmed blocks that stay with these pools: those inside one,
// and those with pods.
func (l *Live) blocksIn(pools []config.Pool) (out []netip.Prefix) {
	for _, b := range l.Alloc.Blocks() {
		inside := slices.ContainsFunc(pools, func(p config.Pool) bool { return p.CIDR.Bits() <= b.CIDR.Bits() && p.CIDR.Contains(b.CIDR.Addr()) })
		if b.Confirmed && (inside || b.Used > 0) {
			out = append(out, b.CIDR)
		}
	}
	return out
}

// Speak implements [forecast.Agent].
func (l *Live) Speak(ctx context.Context, d bgp.Desire, sink bgp.ForecastSink) ([]bgp.SessionForecast, error) {
	return l.Speaker.Forecast(ctx, d, sink)
}

// Inputs implements [forecast.Agent].
func (l *Live) Inputs(ctx context.Context) (rib.Inputs, rib.Resolver, error) { return l.Copy(ctx) }

// Decide implements [forecast.Agent]. Pools that need other tunnel devices need a
// restart, so that those of now are the ones.
func (l *Live) Decide(in *rib.Inputs, next *config.Effective) {
	ranges, _ := rooms.Ranges(next.Pools)
	in.Pools = rooms.RIB(next.Pools, rooms.Tunnels(&next.Config, l.ID))
	in.Permit = l.Permit(next.BGP.Peers, ranges)
	in.Own = l.blocksIn(next.Pools)
	in.Aggregates = l.Contributed(next.BGP.Aggregates(), slices.Concat(in.Own, next.BGP.Originate))
}
