package bgp

import (
	"fmt"
	"net/netip"
	"slices"
)

// PrefixRule matches prefixes inside Prefix by their length, as the ge and
// le of a prefix list do.
type PrefixRule struct {
	Prefix netip.Prefix
	// Ge and Le bound the length. Both zero: Prefix and everything inside
	// it, except that 0.0.0.0/0 and ::/0 then match the default route alone.
	Ge, Le int
}

// Matches reports whether the rule matches p.
func (r PrefixRule) Matches(p netip.Prefix) bool {
	lo, hi := r.lengths()
	return p.Addr().BitLen() == r.Prefix.Addr().BitLen() && p.Bits() >= r.Prefix.Bits() &&
		r.Prefix.Contains(p.Addr()) && lo <= p.Bits() && p.Bits() <= hi
}

// lengths returns the least and the greatest prefix length matched.
func (r PrefixRule) lengths() (lo, hi int) {
	lo, hi = r.Ge, r.Le
	if lo == 0 {
		lo = r.Prefix.Bits()
	}
	if hi == 0 {
		hi = r.Prefix.Addr().BitLen()
		if r.Prefix.Bits() == 0 && r.Ge == 0 {
			hi = 0
		}
	}
	return lo, hi
}

func (r PrefixRule) validate(field string) error {
	if err := validPrefix(field, r.Prefix); err != nil {
		return err
	}
	lo, hi := r.lengths()
	if r.Ge < 0 || r.Le < 0 || lo < r.Prefix.Bits() || hi < lo || hi > r.Prefix.Addr().BitLen() {
		return fmt.Errorf("%w: %s: %s ge %d le %d matches nothing: need length <= ge <= le <= %d",
			ErrConfig, field, r.Prefix, r.Ge, r.Le, r.Prefix.Addr().BitLen())
	}
	return nil
}

// Import is what we accept of a peer.
type Import struct {
	// Accept lists prefixes taken. An EBGP peer without it tells us nothing
	// (RFC 8212); for iBGP peers it adds to Config.Pools. The default route
	// needs a rule of its own, and so has a pool: only a rule whose prefix is
	// the pool or inside it lets prefixes of the pool in, up to the length of a
	// block, or longer ones when it is for those alone.
	Accept []PrefixRule
	// MaxPrefixes, per family, ends the session when exceeded; it is tried
	// again after 5 minutes. 0 means no limit.
	MaxPrefixes uint32
	// LocalPref is given to routes of an EBGP peer; 0 means 100.
	LocalPref uint32
	// Filters are asked, in this order, before Accept and the pools.
	Filters []Filter
	// AnyNextHop takes routes of an EBGP peer whose next hop is neither the
	// peer nor on a subnet shared with it (RFC 4271 section 5.1.3): of a route
	// server, say, or of a peer several hops away.
	AnyNextHop bool
	// AnyOwner takes blocks of nodes with other next hops than their owners'
	// (see [Speaker.SetOwners]): of a reflector that puts itself in the path.
	AnyOwner bool
}

func (i Import) equal(o Import) bool {
	return slices.Equal(i.Accept, o.Accept) && i.MaxPrefixes == o.MaxPrefixes && i.LocalPref == o.LocalPref &&
		i.AnyNextHop == o.AnyNextHop && i.AnyOwner == o.AnyOwner &&
		equalFilters(i.Filters, o.Filters)
}

func (i Import) validate() error {
	for _, r := range i.Accept {
		if err := r.validate("Import.Accept"); err != nil {
			return err
		}
	}
	return nil
}

// Aggregate is a prefix that stands for own prefixes inside it.
type Aggregate struct {
	Prefix netip.Prefix
	// SummaryOnly withholds the own prefixes inside.
	SummaryOnly bool
}

// Export is what we tell a peer.
type Export struct {
	// Own lets an EBGP peer have this node's own prefixes. iBGP peers and
	// clients always get them.
	Own bool
	// Prefixes narrows the own prefixes exported; empty means all.
	Prefixes []PrefixRule
	// Communities are added to own prefixes: "64512:100" (RFC 1997) or
	// "64512:1:2" (RFC 8092).
	Communities []string
	// MED is set on own prefixes when not 0.
	MED uint32
	// Aggregates of an EBGP peer are told while [Speaker.SetOrigins] has them;
	// other peers are not told.
	Aggregates []Aggregate
	// Reflected also sends an IBGP peer what our clients announced: for the
	// upper reflector of a hierarchy (RFC 4456 section 7). Two reflectors of
	// one level must not: they would keep each other's withdrawn routes alive.
	Reflected bool
	// Filters are asked, in this order, of what the peer may be told: an EBGP
	// peer own prefixes (also without Own and outside Prefixes), others what
	// they get without filters. They see own prefixes with Communities and
	// MED already set.
	Filters []Filter
}

func (e Export) equal(o Export) bool {
	return e.Own == o.Own && e.MED == o.MED && e.Reflected == o.Reflected &&
		slices.Equal(e.Prefixes, o.Prefixes) && slices.Equal(e.Aggregates, o.Aggregates) && slices.Equal(e.Communities, o.Communities) &&
		equalFilters(e.Filters, o.Filters)
}

func (e Export) validate() error {
	for _, r := range e.Prefixes {
		if err := r.validate("Export.Prefixes"); err != nil {
			return err
		}
	}
	for _, a := range e.Aggregates {
		if err := validPrefix("Export.Aggregates", a.Prefix); err != nil {
			return err
		}
	}
	_, _, err := parseCommunities("Export.Communities", e.Communities)
	return err
}
