package bgp

import (
	"net/netip"

	"onlink/bgp/policy"
)

// Intrusion is an announcement inside a pool by a node that does not own the
// prefix. It is refused.
type Intrusion struct {
	Prefix  netip.Prefix // as announced: the block, a part of it, or a prefix around it
	Block   netip.Prefix // the block whose packets it would take
	Owner   string       // the node that owns Block
	Peer    netip.Addr   // that announced it
	NextHop netip.Addr
	// OriginatorID is the router ID of the node behind a reflector; the zero
	// Addr when Peer itself originates the route.
	OriginatorID netip.Addr
}

// intrusionOf returns r as an intrusion; false when its peer may announce the
// prefix.
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
