package policy

import (
	"net/netip"
	"slices"
)

// Statement is one step of a policy. Statements are evaluated in order; the
// first that matches and whose action is not Next decides. Package bgp/gobgp
// translates them for the engine, [Plan.Import] and [Plan.Export] run them.
type Statement struct {
	Rule   string // the reason, in words for an operator
	Cond   Condition
	Change Change
	Action Action
}

// Condition holds when all its fields that are set hold.
type Condition struct {
	Peers       *Class // nil: all peers
	Source      Source
	Bits        int          // the length of the prefix's addresses: 32 (IPv4), 128 (IPv6) or 0 (both)
	Prefixes    []PrefixRule // one family; nil: all
	Communities []string     // patterns
	All         bool         // every one of Communities must be carried, else one of them
	Large       []string     // patterns of large communities, one of them
	ASPath      []string     // expressions, one of them
	Hops        []string     // next hops, one of them
}

// Change is the change that a statement makes to a route. It has at most one
// operation for each kind of communities, because a statement of the engine does.
type Change struct {
	LocalPref          uint32  // 0: not changed
	MED                *uint32 // nil: not changed
	Prepend            int
	PrependAS          uint32
	Communities, Large CommunityChange
	NextHop            NextHop
	Origin             string // "": not changed
}

// holds reports whether the condition holds for r at the session with peer.
func (c *Condition) holds(r *Route, peer netip.Addr) bool {
	switch {
	case c.Peers != nil && !c.Peers.has(peer),
		c.Source != AnySource && c.Source != r.Source,
		c.Bits != 0 && c.Bits != r.Prefix.Addr().BitLen(),
		c.Prefixes != nil && !slices.ContainsFunc(c.Prefixes, func(p PrefixRule) bool { return p.Matches(r.Prefix) }),
		len(c.Hops) > 0 && !slices.Contains(c.Hops, r.NextHop.String()),
		len(c.Large) > 0 && !carries(r.LargeCommunities, c.Large),
		len(c.ASPath) > 0 && !pathMatches(c.ASPath, r.ASPath):
		return false
	}
	if c.All {
		return !slices.ContainsFunc(c.Communities, func(p string) bool { return !carries(r.Communities, []string{p}) })
	}
	return len(c.Communities) == 0 || carries(r.Communities, c.Communities)
}

// carries reports whether one of have matches one of the patterns.
func carries(have, patterns []string) bool {
	return slices.ContainsFunc(have, func(h string) bool { return matchesAny(patterns, h) })
}

func pathMatches(expressions []string, path string) bool {
	return slices.ContainsFunc(expressions, func(text string) bool {
		e, err := asPathRegexp(text)
		return err == nil && e.MatchString(path)
	})
}

// apply makes the change to r at a session.
func (c *Change) apply(r *Route, s *view) {
	if c.LocalPref != 0 {
		r.LocalPref = &c.LocalPref
	}
	if c.MED != nil {
		r.MED = c.MED
	}
	if c.Origin != "" {
		r.Origin = c.Origin
	}
	for range c.Prepend {
		r.ASPath = prepend(c.PrependAS, r.ASPath)
	}
	r.Communities, r.LargeCommunities = c.Communities.apply(r.Communities), c.Large.apply(r.LargeCommunities)
	switch c.NextHop.Kind {
	case NextHopSelf:
		r.NextHop = s.Local
	case NextHopUnchanged:
		r.NextHop = s.before
	case NextHopPeer:
		r.NextHop = s.Peer
	case NextHopAddress:
		r.NextHop = c.NextHop.Addr
	case NextHopKeep:
	}
}

func (c CommunityChange) apply(have []string) []string {
	if len(c.Replace) > 0 {
		return slices.Clone(c.Replace)
	}
	have = slices.DeleteFunc(slices.Clone(have), func(h string) bool { return matchesAny(c.Remove, h) })
	return append(have, c.Add...)
}

// has reports whether addr is one of the class's neighbours.
func (k *Class) has(addr netip.Addr) bool {
	addr = addr.WithZone("")
	return slices.ContainsFunc(k.Neighbors, func(n netip.Prefix) bool { return n.Contains(addr) })
}
