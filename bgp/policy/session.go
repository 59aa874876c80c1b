package policy

import (
	"fmt"
	"net/netip"
	"slices"
)

// Import is the import policy of a peer.
type Import struct {
	// Accept lists prefixes that are accepted. From a peer of another AS
	// nothing is accepted without it (RFC 8212); for peers of our AS it adds to
	// the pools. The default route needs a rule of its own, and so does a pool:
	// only a rule whose prefix is the pool or inside it accepts prefixes of the
	// pool, up to the length of a block, or longer ones when it is for those
	// alone.
	Accept []PrefixRule
	// MaxPrefixes, per family, ends the session when exceeded; the session is
	// tried again after 5 minutes. 0 means no limit.
	MaxPrefixes uint32
	// LocalPref is set on routes of a peer of another AS; 0 means 100.
	LocalPref uint32
	// Filters are evaluated, in this order, before Accept and the pools.
	Filters []Filter
	// DisableConnectedCheck accepts routes of a peer of another AS whose next
	// hop is neither the peer nor on a subnet shared with it (RFC 4271 section
	// 5.1.3): of a route server, say, or of a peer several hops away.
	DisableConnectedCheck bool
	// DisableOwnerCheck accepts blocks with other next hops than their owners'
	// (see [Owners]): from a reflector that sets itself as next hop.
	DisableOwnerCheck bool
}

// Equal reports whether i and o accept the same.
func (i Import) Equal(o Import) bool {
	return slices.Equal(i.Accept, o.Accept) && i.MaxPrefixes == o.MaxPrefixes && i.LocalPref == o.LocalPref &&
		i.DisableConnectedCheck == o.DisableConnectedCheck && i.DisableOwnerCheck == o.DisableOwnerCheck &&
		equalFilters(i.Filters, o.Filters)
}

// Validate returns the faults of i for a peer of another AS (external) or of
// ours; own are this node's addresses. path is the key of i.
func (i Import) Validate(path string, external bool, own ...netip.Addr) []Fault {
	var list []Fault
	for n, r := range i.Accept {
		list = append(list, r.Validate(fmt.Sprintf("%s.accept[%d]", path, n))...)
	}
	return append(list, validateFilters(path+".filters", i.Filters, Use{External: external, Own: own})...)
}

// Accepted returns the prefixes that the configuration accepts: those of Accept,
// and those of filter rules that accept.
func (i Import) Accepted() []PrefixRule {
	list := slices.Clone(i.Accept)
	for _, f := range i.Filters {
		for _, r := range f.Rules {
			if r.Action == Accept {
				list = append(list, r.Match.Prefixes...)
			}
		}
	}
	return list
}

// Aggregate is a prefix announced while this node has own prefixes inside it.
type Aggregate struct {
	Prefix netip.Prefix
	// SummaryOnly withholds the own prefixes inside.
	SummaryOnly bool
}

// Export is the export policy of a peer.
type Export struct {
	// Own announces this node's own prefixes to a peer of another AS. To peers
	// of our AS they are always announced.
	Own bool
	// Prefixes narrows the own prefixes exported; empty means all.
	Prefixes []PrefixRule
	// Communities are added to own prefixes: "64512:100" (RFC 1997) or
	// "64512:1:2" (RFC 8092).
	Communities []string
	// MED is set on own prefixes when not 0.
	MED uint32
	// Aggregates of a peer of another AS are announced while this node
	// originates them; to other peers never.
	Aggregates []Aggregate
	// Reflected also announces our clients' routes to a peer of our AS: for the
	// upper reflector of a hierarchy (RFC 4456 section 7). Two reflectors of
	// one level must not: they would keep each other's withdrawn routes alive.
	Reflected bool
	// Filters are evaluated, in this order, for the routes that may be announced:
	// to a peer of another AS own prefixes (also without Own and outside
	// Prefixes), to others the routes that they get without filters. Own prefixes
	// have Communities and MED set already.
	Filters []Filter
}

// Equal reports whether e and o announce the same.
func (e Export) Equal(o Export) bool {
	return e.Own == o.Own && e.MED == o.MED && e.Reflected == o.Reflected &&
		slices.Equal(e.Prefixes, o.Prefixes) && slices.Equal(e.Aggregates, o.Aggregates) && slices.Equal(e.Communities, o.Communities) &&
		equalFilters(e.Filters, o.Filters)
}

// Validate returns the faults of e for a peer of another AS (external) or of
// ours. path is the key of e.
func (e Export) Validate(path string, external bool) []Fault {
	var list faults
	for n, r := range e.Prefixes {
		list = append(list, r.Validate(fmt.Sprintf("%s.prefixes[%d]", path, n))...)
	}
	for n, a := range e.Aggregates {
		if text := PrefixFault(a.Prefix); text != "" {
			list.add(fmt.Sprintf("%s.aggregates[%d]", path, n), "%s", text)
		}
	}
	list = append(list, checkCommunities(path+".communities", e.Communities, 0)...)
	return append(list, validateFilters(path+".filters", e.Filters, Use{Export: true, External: external})...)
}

// Node are the properties of this node that policies use.
type Node struct {
	ASN         uint32
	Addresses   []netip.Addr // next hops of its own prefixes; a route with one is refused
	Pools       []Pool
	PodGateways []netip.Addr // gateways of the pods; a route with one as next hop is refused
}

// Peer is a session, or those that are accepted from a range of addresses, with
// its policies.
type Peer struct {
	Name string // by which own prefixes name it, see [OwnPrefix]
	// Neighbor is the peer's address, without a zone, or the range.
	Neighbor netip.Prefix
	// Device is the interface of a link-local peer, or of one that is bound to
	// it; "" for others.
	Device     string
	ASN        uint32
	External   bool   // the peer is of another AS
	Client     bool   // this node reflects to it (RFC 4456)
	LocalAS    uint32 // the AS this node is to an external peer; 0: its own
	AllowOwnAS uint8  // how often our AS may be in an AS_PATH
	Import     Import
	Export     Export
}

// OwnPrefix is a prefix that this node originates.
type OwnPrefix struct {
	Prefix    netip.Prefix
	Aggregate bool // announced to the peers that have it in Export.Aggregates
	// Service prefixes are those that filters match as source "service" too.
	Service bool
	// Peers are the names of the only peers that it is announced to; empty: all.
	Peers []string
	// Ending: it is about to be withdrawn. It is treated as before, but an aggregate
	// hides nothing any more: the prefixes inside are announced before it goes.
	Ending bool
}

// samePolicy reports whether p and o can share a class of statements.
func (p *Peer) samePolicy(o *Peer) bool {
	return p.Neighbor.Addr().BitLen() == o.Neighbor.Addr().BitLen() && p.linkLocal() == o.linkLocal() &&
		p.External == o.External && p.Client == o.Client && p.LocalAS == o.LocalAS &&
		p.Import.Equal(o.Import) && p.Export.Equal(o.Export)
}

// linkLocal reports whether the session is over link-local addresses: our only
// next hop that the peer can reach is then the link-local one.
func (p *Peer) linkLocal() bool { return p.Neighbor.Addr().IsLinkLocalUnicast() }

// reflects reports whether routes of other peers of our AS are announced to p.
func (p *Peer) reflects() bool { return p.Client || !p.External && p.Export.Reflected }
