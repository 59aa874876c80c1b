package rib

import (
	"net/netip"
	"slices"
)

// Permit bounds learned routes. The zero Permit forbids a default route and
// protects nothing else.
type Permit struct {
	// Default allows a learned default route (0.0.0.0/0, ::/0).
	Default bool
	// Prefixes are allowed although they lie in NodeSubnets, with all that is
	// more specific.
	Prefixes []netip.Prefix
	// NodeSubnets are this node's connected networks. A learned prefix equal
	// to one or inside one is refused; one that covers it is harmless, since
	// the connected route is longer.
	NodeSubnets []netip.Prefix
	// Peers are the addresses of the configured BGP neighbours. No learned
	// route may take over the way to them, also before their first
	// announcement.
	Peers []netip.Addr
	// PoolPeers are the peers of another AS that may announce parts of the
	// pools, because their configuration names a pool or a part of one. Of the
	// peers of other ASes only these announce nodes, see [Table.Nodes].
	PoolPeers []netip.Addr
	// Host are the prefixes that the node reaches without onlink: its networks
	// and the gateways of its routes. No drop route of an own block or aggregate
	// is installed that overlaps one of them, or a peer: it would cut that off.
	Host []netip.Prefix
}

// equal reports whether p and o are the same, also in the order of their lists.
func (p *Permit) equal(o *Permit) bool {
	return p.Default == o.Default &&
		slices.Equal(p.Prefixes, o.Prefixes) &&
		slices.Equal(p.NodeSubnets, o.NodeSubnets) &&
		slices.Equal(p.Peers, o.Peers) &&
		slices.Equal(p.PoolPeers, o.PoolPeers) &&
		slices.Equal(p.Host, o.Host)
}

// clone returns a copy which shares nothing with the caller's.
func (p *Permit) clone() Permit {
	return Permit{
		Default:     p.Default,
		Prefixes:    slices.Clone(p.Prefixes),
		NodeSubnets: slices.Clone(p.NodeSubnets),
		Peers:       slices.Clone(p.Peers),
		PoolPeers:   slices.Clone(p.PoolPeers),
		Host:        slices.Clone(p.Host),
	}
}

// allows reports whether a learned route to prefix may be installed as far as
// default routes and node subnets are concerned.
func (p *Permit) allows(prefix netip.Prefix) bool {
	if prefix.Bits() == 0 && !p.Default {
		return false
	}
	return !inside(p.NodeSubnets, prefix) || inside(p.Prefixes, prefix)
}

// cutsOff reports whether a drop route for prefix would cut off a prefix of Host
// or a peer.
func (p *Permit) cutsOff(prefix netip.Prefix) bool {
	return slices.ContainsFunc(p.Host, prefix.Overlaps) || slices.ContainsFunc(p.Peers, prefix.Contains)
}

// inside reports whether one of the set equals prefix or covers it.
func inside(set []netip.Prefix, prefix netip.Prefix) bool {
	return slices.ContainsFunc(set, func(s netip.Prefix) bool { return covers(s, prefix) })
}

// covers reports whether every address of b is in a.
func covers(a, b netip.Prefix) bool {
	return a.Bits() <= b.Bits() && a.Contains(b.Addr())
}
