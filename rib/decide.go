package rib

import (
	"net/netip"
	"slices"
)

// decide returns what the kernel shall hold for an entry's prefix, and whether
// its next hops are those of a pool's route. It is the decision described in
// the package comment, from the most certain source to the least.
func (t *Table) decide(e *entry) (v verdict, pooled bool) {
	switch {
	case e.pod:
		return verdict{kind: Local, reason: ReasonPod, hops: MakeHops(Hop{Dev: t.pods[e.prefix], Reason: ReasonPod})}, false
	case (e.own || e.summed) && t.permit.cutsOff(e.prefix):
		return verdict{kind: Unresolved, reason: ReasonHostNetwork}, false
	case e.own:
		return verdict{kind: Blackhole, reason: ReasonOwnBlock}, false
	case e.summed:
		return verdict{kind: Blackhole, reason: ReasonAggregate}, false
	case e.ways == nil:
		return absent, false
	case Martian(e.prefix):
		return verdict{kind: Unresolved, reason: ReasonMartian}, false
	case inside(t.own, e.prefix):
		return verdict{kind: Unresolved, reason: ReasonInsideOwnBlock}, false
	case !t.permit.allows(e.prefix):
		return verdict{kind: Unresolved, reason: ReasonForbidden}, false
	}
	pool := t.poolOf(e.prefix)
	if t.takesPath(e, pool < 0) {
		return verdict{kind: Unresolved, reason: ReasonCoversNextHop}, false
	}
	return t.forward(e.ways, pool, e.prefix.Addr().Is4()), pool >= 0
}

// poolOf returns the index of the most specific pool that covers prefix, or -1.
func (t *Table) poolOf(prefix netip.Prefix) int {
	return slices.IndexFunc(t.pools, func(p Pool) bool { return covers(p.Prefix, prefix) })
}

// takesPath reports whether installing the entry's prefix would change how the
// kernel reaches a BGP next hop or peer. Such a route may break the session or
// the tunnel it depends on, be withdrawn with it, and come back with it: the
// recursive flap of RFC 4271 section 9.1.2.1.
//
// One kind may do so: a prefix outside every pool told only by peers of
// another AS is the underlay itself speaking (a ToR announcing the other
// rack), as long as it does not cover the next hop or peer it came from, and
// leads into no pool: packets between nodes would go into their own tunnel.
//
// An address inside a pool has no path of the underlay that could be taken: it
// is reached by the pool's routes, whoever names it as next hop. Else anybody
// could take a block away with a route whose next hop lies in it.
func (t *Table) takesPath(e *entry, outside bool) bool {
	underlay := outside && !slices.ContainsFunc(e.ways.set, func(w way) bool { return !w.ebgp }) &&
		!slices.ContainsFunc(e.ways.hops, (*nextHop).isInner)
	at, _ := slices.BinarySearchFunc(t.sorted, e.prefix.Addr(), compareHop)
	for _, hop := range t.sorted[at:] {
		if !e.prefix.Contains(hop.addr.WithZone("")) {
			return false // sorted: none behind it is inside either
		}
		if !hop.guards(e.prefix) {
			continue
		}
		if !underlay || e.ways.names(hop.addr) {
			return true
		}
	}
	return false
}

// guards reports whether the kernel's way to hop would yield to prefix, which
// contains it.
func (hop *nextHop) guards(prefix netip.Prefix) bool {
	r := hop.reach
	return hop.class == outerHop && (r.Kind == OnLink || r.Kind == Gateway) && r.Match.IsValid() && prefix.Bits() >= r.Match.Bits()
}

// names reports whether addr is a next hop or the peer of one of the paths.
func (w *ways) names(addr netip.Addr) bool {
	return slices.ContainsFunc(w.set, func(p way) bool { return p.nextHop == addr || p.peer == addr })
}

// slot is the place of a pool (-1: none) and a family in ways.verdicts.
func slot(pool int, v4 bool) int {
	s := 2 * (pool + 1)
	if v4 {
		s++
	}
	return s
}

// forward returns the verdict by the next hops alone, from the cache or anew.
// It is the same for all prefixes of one pool and family.
func (t *Table) forward(w *ways, pool int, v4 bool) verdict {
	if w.verdicts == nil {
		w.verdicts = make([]verdict, slot(len(t.pools)-1, true)+1)
	}
	cached := &w.verdicts[slot(pool, v4)]
	if *cached == (verdict{}) {
		var p *Pool
		if pool >= 0 {
			p = &t.pools[pool]
		}
		*cached = forward(w.hops, p, v4)
	}
	return *cached
}

// forward decides every next hop on its own. pool is nil outside all pools.
// The result is never the zero verdict: a verdict always has a reason.
func forward(nextHops []*nextHop, pool *Pool, v4 bool) verdict {
	var hops []Hop
	why := ReasonNone
	outer := pool != nil && hasOuter(nextHops)
	for _, nh := range nextHops {
		if outer && nh.isInner() {
			continue // a block is where its node is, not where one of its addresses is
		}
		var dropped Reason
		hops, dropped = appendHop(hops, nh, pool, v4)
		if why == ReasonNone {
			why = dropped
		}
	}
	set := MakeHops(hops...)
	if set.Len() == 0 {
		return verdict{kind: Unresolved, reason: why}
	}
	return verdict{kind: Unicast, reason: set.At(0).Reason, hops: set}
}

// appendHop appends the members that reach one next hop, or says why there are
// none.
func appendHop(hops []Hop, nh *nextHop, pool *Pool, v4 bool) ([]Hop, Reason) {
	if !v4 && nh.addr.Is4() {
		// IPv4 over an IPv6 gateway exists (RTA_VIA, RFC 8950); the reverse
		// does not, neither on a wire nor in ipip.
		return hops, ReasonFamilyUnsupported
	}
	switch {
	case nh.class == martianHop:
		return hops, ReasonMartianHop
	case nh.isInner() && nh.reach.Kind != Self && nh.reach.Kind != Dead:
		return appendThrough(hops, nh)
	}
	switch nh.reach.Kind {
	case OnLink, Gateway:
	case Blackholed:
		return hops, ReasonBlackholeHop
	case Self:
		return hops, ReasonOwnNextHop
	default:
		return hops, ReasonUnreachable
	}
	dev, why := encapsulation(nh, pool)
	if dev != "" {
		// IPv6 has no such flag that would help: package tunnel makes every
		// address a neighbour on a device over IPv6.
		return append(hops, Hop{Via: nh.addr, Dev: dev, Onlink: nh.addr.Is4(), Tunnel: true, Reason: why}), ReasonNone
	}
	for h := range nh.reach.Hops.All() {
		via := nh.addr
		if nh.reach.Kind == Gateway {
			via = h.Via
			if !via.IsValid() {
				// One leg of a mixed multipath route is on-link.
				via = nh.addr
			}
		}
		hops = append(hops, Hop{Via: via, Dev: h.Dev, Onlink: h.Onlink, Reason: why})
	}
	if nh.reach.Hops.Len() == 0 {
		return hops, ReasonUnreachable
	}
	return hops, ReasonNone
}

// encapsulation returns the tunnel device for a reachable next hop, or "" when
// the underlay's way is taken, and why.
func encapsulation(nh *nextHop, pool *Pool) (dev string, why Reason) {
	onLink := nh.reach.Kind == OnLink
	switch {
	case nh.addr.Zone() != "":
		return "", ReasonOnLink // a router on that link: there is no tunnel to it
	case onLink && (pool == nil || pool.Encap != Always):
		return "", ReasonOnLink
	case pool == nil:
		return "", ReasonOutsidePools
	case pool.Encap == Never:
		return "", ReasonNever
	}
	dev = pool.Tunnel
	if nh.addr.Is6() {
		dev = pool.Tunnel6
	}
	switch {
	case dev == "":
		return "", ReasonNoTunnel
	case onLink:
		return dev, ReasonAlways
	}
	return dev, ReasonViaGateway
}
