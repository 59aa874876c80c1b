package bgp

import (
	"fmt"
	"net/netip"
	"slices"

	"onlink/bgp/policy"
)

// Origin is a prefix that this node originates.
type Origin struct {
	Prefix netip.Prefix
	// Communities are attached: "64512:100" (RFC 1997) or "64512:1:2" (RFC 8092).
	Communities []string
	// Draining announces the prefix with GRACEFUL_SHUTDOWN and LOCAL_PREF 0
	// (RFC 8326), so that peers move to other paths before it is withdrawn.
	Draining bool
	// Aggregate prefixes are announced only to peers with them in
	// Export.Aggregates, and prefixes of other nodes inside are accepted.
	Aggregate bool
	// LocalPref is sent to peers of our AS; nil means 100. Draining overrides it.
	LocalPref *uint32
	MED       *uint32 // nil: none
	// Peers are the names of the only peers, or Dynamics, that receive it; empty
	// means all. A name without a session is ignored.
	Peers []string
	// Service prefixes are announced for others: filters match them as source
	// "service", and another node may announce the same ones.
	Service bool
}

// Equal reports whether o and p are the same announcement.
func (o Origin) Equal(p Origin) bool {
	return o.Prefix == p.Prefix && o.Draining == p.Draining && o.sameExport(&p) && slices.Equal(o.Communities, p.Communities) &&
		equal(o.LocalPref, p.LocalPref) && equal(o.MED, p.MED)
}

// compare orders own prefixes: one comes before those inside it.
func (o Origin) compare(p Origin) int { return o.Prefix.Compare(p.Prefix) }

// sameExport reports whether the policy treats o and p alike.
func (o Origin) sameExport(p *Origin) bool {
	return o.Aggregate == p.Aggregate && o.Service == p.Service && slices.Equal(o.Peers, p.Peers)
}

// equal reports whether two optional values are the same.
func equal(a, b *uint32) bool { return a == b || a != nil && b != nil && *a == *b }

// validate checks o for a node of configuration c.
func (o Origin) validate(c *Config) error {
	if err := validPrefix("Origin.Prefix", o.Prefix); err != nil {
		return err
	}
	if o.Prefix.Bits() == 0 {
		return fmt.Errorf("%w: Origin.Prefix: the default route %s cannot be originated", ErrConfig, o.Prefix)
	}
	if !o.nextHop(c).IsValid() {
		return fmt.Errorf("%w: Origin.Prefix: %s has no next hop: set NodeAddress or NodeAddress6", ErrConfig, o.Prefix)
	}
	if _, _, err := policy.ParseCommunities(o.Communities); err != nil {
		return fmt.Errorf("%w: Origin.Communities: %w", ErrConfig, err)
	}
	return nil
}

func (o Origin) nextHop(c *Config) netip.Addr {
	if o.Prefix.Addr().Is4() {
		return c.NodeAddress
	}
	return c.NodeAddress6
}

// route returns the route that this node announces for o.
func (o Origin) route(c *Config) policy.Route {
	r := policy.Route{Prefix: o.Prefix, NextHop: o.nextHop(c), Communities: o.Communities, LocalPref: o.LocalPref, MED: o.MED}
	if o.Draining {
		if !slices.Contains(o.Communities, policy.GracefulShutdown) {
			r.Communities = append(slices.Clone(o.Communities), policy.GracefulShutdown)
		}
		r.LocalPref = new(uint32)
	}
	return r
}

// origins are the prefixes that this node originates.
type origins map[netip.Prefix]Origin

// originsOf returns the desired prefixes of a node with configuration c, or an
// [ErrConfig].
func originsOf(c *Config, list []Origin) (origins, error) {
	out := make(origins, len(list))
	for _, o := range list {
		if err := o.validate(c); err != nil {
			return nil, err
		}
		if _, twice := out[o.Prefix]; twice {
			return nil, fmt.Errorf("%w: Origin.Prefix: %s is listed twice", ErrConfig, o.Prefix)
		}
		out[o.Prefix] = o
	}
	return out, nil
}

// alone returns those that no other node may announce: services have several nodes.
func (o origins) alone() map[netip.Prefix]Origin {
	out := make(map[netip.Prefix]Origin, len(o))
	for p, one := range o {
		if !one.Service {
			out[p] = one
		}
	}
	return out
}

// moves are the steps from one set of own prefixes to another.
type moves struct {
	announce, withdraw []Origin // a prefix comes before those inside it
	filters            bool     // the policy must change before the announcements
	// redirected are those of both sets that the policy treats differently on export:
	// they have other peers, or an aggregate around them appears or ends.
	redirected map[netip.Prefix]bool
	// judged have inside them the routes of peers that import treats differently.
	judged ownPrefixes
}

// to returns the moves from o to want.
func (o origins) to(want origins) moves {
	m := moves{redirected: map[netip.Prefix]bool{}}
	// turned are those that one set alone has, or has as an aggregate.
	turned, aggregates := origins{}, origins{}
	turn := func(one Origin, aggregate bool) {
		turned[one.Prefix] = one
		if aggregate {
			aggregates[one.Prefix] = one
		}
	}
	for prefix, w := range want {
		was, had := o[prefix]
		if !had || was.Aggregate != w.Aggregate {
			turn(w, was.Aggregate || w.Aggregate)
		}
		if !had || !was.Equal(w) {
			m.announce = append(m.announce, w)
		}
	}
	for prefix, was := range o {
		if _, keep := want[prefix]; !keep {
			turn(was, was.Aggregate)
			m.withdraw = append(m.withdraw, was)
		}
	}
	hides := ownPrefixesOf(aggregates)
	for prefix, w := range want {
		was, had := o[prefix]
		if had && (!was.sameExport(&w) || hides.holding(prefix).IsValid()) {
			m.redirected[prefix] = true
		}
		m.filters = m.filters || !had || m.redirected[prefix]
	}
	m.judged = ownPrefixesOf(turned)
	slices.SortFunc(m.announce, Origin.compare)
	slices.SortFunc(m.withdraw, Origin.compare)
	return m
}
