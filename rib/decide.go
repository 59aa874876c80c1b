package rib

// decide returns the verdict for an entry's prefix, and whether its next hops are
// those of a pool's route. It is the decision described in the package comment,
// from the most certain source to the least.
func decide(e *entry, own *ownership, hops *nextHops) (v verdict, pooled bool) {
	switch {
	case e.pod:
		return verdict{kind: Local, reason: ReasonPod, hops: MakeHops(Hop{Dev: own.pods[e.prefix], Reason: ReasonPod})}, false
	case (e.own || e.summed) && own.permit.cutsOff(e.prefix):
		return verdict{kind: Unresolved, reason: ReasonHostNetwork}, false
	case e.own:
		return verdict{kind: Blackhole, reason: ReasonOwnBlock}, false
	case e.summed:
		return verdict{kind: Blackhole, reason: ReasonAggregate}, false
	case e.ways == nil:
		return absent, false
	case Martian(e.prefix):
		return verdict{kind: Unresolved, reason: ReasonMartian}, false
	case inside(own.blocks, e.prefix):
		return verdict{kind: Unresolved, reason: ReasonInsideOwnBlock}, false
	case !own.permit.allows(e.prefix):
		return verdict{kind: Unresolved, reason: ReasonForbidden}, false
	}
	pool := own.poolOf(e.prefix)
	if hops.takenBy(e, pool < 0) {
		return verdict{kind: Unresolved, reason: ReasonCoversNextHop}, false
	}
	return e.ways.forward(own.pools, pool, e.prefix.Addr().Is4()), pool >= 0
}

// slot is the place of a pool (-1: none) and a family in ways.verdicts.
func slot(pool int, v4 bool) int {
	s := 2 * (pool + 1)
	if v4 {
		s++
	}
	return s
}

// forward returns the verdict for the next hops alone, from the cache or newly
// computed. It is the same for all prefixes of one pool and family.
func (w *ways) forward(pools []Pool, pool int, v4 bool) verdict {
	if w.verdicts == nil {
		w.verdicts = make([]verdict, slot(len(pools)-1, true)+1)
	}
	cached := &w.verdicts[slot(pool, v4)]
	if *cached == (verdict{}) {
		var p *Pool
		if pool >= 0 {
			p = &pools[pool]
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
			continue // a block leads to its node, not to one of its addresses
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

// appendHop appends the members that reach one next hop, or returns the reason why
// there are none.
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
		// Over IPv6 onlink would not help: package tunnel makes every address a
		// neighbour on such a device.
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

// encapsulation returns the tunnel device for a reachable next hop, "" when the
// route follows the underlay, and the reason.
func encapsulation(nh *nextHop, pool *Pool) (dev string, why Reason) {
	onLink := nh.reach.Kind == OnLink
	switch {
	case nh.addr.Zone() != "":
		return "", ReasonOnLink // a router on that link has no tunnel device
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

// appendThrough appends the members that reach an inner next hop: a pod of this
// node as a gateway on its own device, else the members of the pool's route.
func appendThrough(hops []Hop, nh *nextHop) ([]Hop, Reason) {
	switch nh.through.kind {
	case Local:
		pod := nh.through.hops.At(0)
		return append(hops, Hop{Via: nh.addr, Dev: pod.Dev, Onlink: nh.addr.Is4(), Reason: ReasonThroughPool}), ReasonNone
	case Unicast:
		for h := range nh.through.hops.All() {
			h.Reason = ReasonThroughPool
			hops = append(hops, h)
		}
		return hops, ReasonNone
	case Unresolved, Blackhole:
	}
	return hops, ReasonHopInPool
}
