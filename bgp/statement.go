package bgp

import (
	"net/netip"
	"slices"
)

// statement is one step of a policy in our own terms. The engine is given its
// translation (engine policy.go); the evaluator runs it as it is. Statements
// are asked in order; the first that matches and does not say Next decides.
type statement struct {
	rule   string // why, in words for an operator
	cond   condition
	change change
	action Action
}

// condition holds when all that is given holds.
type condition struct {
	peers       *policyClass // nil: all peers
	source      Source
	family      Family       // 0: both
	prefixes    []PrefixRule // one family; nil: all
	communities []string     // patterns
	all         bool         // every one of communities must be carried, else one of them
	large       []string     // patterns, one of them
	asPath      []string     // expressions, one of them
	hops        []string     // next hops, one of them
}

// change is what a statement does to a route. Of one kind of communities it
// holds one operation: the engine has no more in a statement.
type change struct {
	localPref uint32
	med       *uint32
	prepend   int
	prependAS uint32
	std, lrg  CommunityChange
	nextHop   NextHop
	origin    string
}

// holds reports whether the condition holds for r at the session with peer.
func (c *condition) holds(r *Route, peer netip.Addr) bool {
	switch {
	case c.peers != nil && !c.peers.has(peer),
		c.source != AnySource && c.source != r.Source,
		c.family != 0 && c.family != familyOfAddr(r.Prefix.Addr()),
		c.prefixes != nil && !slices.ContainsFunc(c.prefixes, func(p PrefixRule) bool { return p.Matches(r.Prefix) }),
		len(c.hops) > 0 && !slices.Contains(c.hops, r.NextHop.String()),
		len(c.large) > 0 && !carries(r.LargeCommunities, c.large),
		len(c.asPath) > 0 && !pathMatches(c.asPath, r.ASPath):
		return false
	}
	if c.all {
		return !slices.ContainsFunc(c.communities, func(p string) bool { return !carries(r.Communities, []string{p}) })
	}
	return len(c.communities) == 0 || carries(r.Communities, c.communities)
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

// apply changes r as a statement for the session does.
func (c *change) apply(r *Route, s *sessionView) {
	if c.localPref != 0 {
		r.LocalPref = &c.localPref
	}
	if c.med != nil {
		r.MED = c.med
	}
	if c.origin != "" {
		r.Origin = c.origin
	}
	for range c.prepend {
		r.ASPath = prepend(c.prependAS, r.ASPath)
	}
	r.Communities, r.LargeCommunities = c.std.apply(r.Communities), c.lrg.apply(r.LargeCommunities)
	switch c.nextHop.Kind {
	case NextHopSelf:
		r.NextHop = s.local
	case NextHopUnchanged:
		r.NextHop = s.before
	case NextHopPeer:
		r.NextHop = s.peer
	case NextHopAddress:
		r.NextHop = c.nextHop.Addr
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
func (k *policyClass) has(addr netip.Addr) bool {
	addr = addr.WithZone("")
	return slices.ContainsFunc(k.neighbors, func(n netip.Prefix) bool { return n.Contains(addr) })
}

func familyOfAddr(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}
