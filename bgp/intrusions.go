package bgp

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

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

// Intrusions returns the announcements that were refused because the registry
// knows another owner, by prefix, as of the last few seconds. It is nil with an
// unpatched engine.
func (s *Speaker) Intrusions() []Intrusion {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.intrusions)
}

// Contested returns the blocks that several nodes announce, of which it is not
// known who owns them, with their next hops: first the one that is used, of the
// node that came first. It is as of the last few seconds, and nil with an
// unpatched engine.
func (s *Speaker) Contested() map[netip.Prefix][]netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.contested)
}

// contestant is what bgp/engine adds to the engine: the held prefixes with
// several next hops.
type contestant interface {
	EachContested(fn func(prefix netip.Prefix, hops []netip.Addr)) error
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

// noteIntrusionsLocked takes in those that were there at the last look too.
func (s *Speaker) noteIntrusionsLocked(found, last map[Intrusion]bool) {
	var list []Intrusion
	for i := range found {
		if last[i] {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b Intrusion) int {
		return cmp.Or(a.Prefix.Compare(b.Prefix), a.Peer.Compare(b.Peer), a.NextHop.Compare(b.NextHop))
	})
	for _, i := range list {
		if !slices.Contains(s.intrusions, i) {
			s.log.Warn("a node announces another node's block, refused", "prefix", i.Prefix, "block", i.Block, "owner", i.Owner, "peer", i.Peer, "next_hop", i.NextHop, "originator_id", i.OriginatorID)
		}
	}
	s.intrusions = list
}

// noteContestedLocked takes in what is contested now and was at the last look.
func (s *Speaker) noteContestedLocked(found, last map[netip.Prefix][]netip.Addr) {
	maps.DeleteFunc(found, func(p netip.Prefix, _ []netip.Addr) bool { return last[p] == nil })
	for p, hops := range found {
		if s.contested[p] == nil {
			s.log.Warn("several nodes announce one block, the first one keeps it", "block", p, "next_hops", hops)
		}
	}
	s.contested = found
}
