package bgp

import (
	"net/netip"

	"onlink/bgp/policy"
)

// Intrusion is an announcement inside a pool of a node that is not the owner
// of what it announces. It is refused.
type Intrusion struct {
	Prefix  netip.Prefix // as announced: the block, a part of it, or around it
	Block   netip.Prefix // a block of the pool that it would take packets of
	Owner   string       // the node that owns Block
	Peer    netip.Addr   // who told us
	NextHop netip.Addr
	// OriginatorID is the router ID of the node behind a reflector; the zero
	// Addr when Peer speaks for itself.
	OriginatorID netip.Addr
}

// intrusionOf returns what is wrong with an announcement as far as owners go.
func intrusionOf(g *policy.Guard, r *Rival) (Intrusion, bool) {
	w := g.Ward(r.Peer)
	if w == nil || !g.Pooled(r.Prefix) {
		return Intrusion{}, false
	}
	b := g.Against(w, r.Prefix, r.NextHop)
	if b == nil {
		return Intrusion{}, false
	}
	return Intrusion{Prefix: r.Prefix, Block: b.Prefix, Owner: b.Node, Peer: r.Peer, NextHop: r.NextHop, OriginatorID: r.OriginatorID}, true
}
