package rib

import (
	"net/netip"
	"slices"
)

// hopClass says what kind of address a next hop is.
type hopClass uint8

const (
	outerHop   hopClass = iota // the underlay's: the kernel's own routes lead to it
	innerHop                   // inside a pool: the pool's routes lead to it
	martianHop                 // no packet may be handed to it
)

func (hop *nextHop) isInner() bool { return hop.class == innerHop }

// classOf judges an address. One of a connected network belongs to that, also
// where a pool overlaps the network. A peer that the operator named may have
// any address: some fabrics number their links from 169.254.0.0/16.
func (t *Table) classOf(addr netip.Addr) hopClass {
	var connected netip.Prefix // the longest
	for _, p := range t.permit.NodeSubnets {
		if p.Contains(addr) && p.Bits() >= connected.Bits() {
			connected = p
		}
	}
	switch {
	case (martianAddr(addr) || isEdge(connected, addr)) && !slices.Contains(t.permit.Peers, addr):
		return martianHop
	case !connected.IsValid() && slices.ContainsFunc(t.pools, func(p Pool) bool { return p.Prefix.Contains(addr) }):
		return innerHop
	}
	return outerHop
}

// classify judges all next hops again, after pools or permissions changed. The
// caller decides all routes again.
func (t *Table) classify() {
	t.generation++
	t.inner = t.inner[:0]
	for _, hop := range t.sorted {
		if class := t.classOf(hop.addr); class != hop.class {
			hop.class, hop.through = class, nil
			if hop.isInner() {
				hop.through = &verdict{} // settled when all routes are decided again
			}
			for _, w := range hop.ways {
				clear(w.verdicts)
			}
		}
		if hop.isInner() {
			t.inner = append(t.inner, hop)
		}
	}
}

// throughPool returns the decision of the pool's route to an inner address: of
// the longest one that the kernel holds, because that is the one which its
// packets take.
//
// A route that itself leads into a pool is not looked at. So no two routes can
// wait for each other, and the order of arrival does not matter.
func (t *Table) throughPool(addr netip.Addr) verdict {
	for bits := addr.BitLen(); bits >= 0; bits-- {
		p := netip.PrefixFrom(addr, bits).Masked()
		if t.poolOf(p) < 0 {
			break // all shorter ones are outside too
		}
		if e := t.entries.get(p); e != nil && e.now.kind.Installable() && e.leads() {
			return e.now
		}
	}
	return absent
}

// leads reports whether other routes may resolve through e.
func (e *entry) leads() bool {
	return e.pod || e.own || e.summed || e.ways != nil && hasOuter(e.ways.hops)
}

func hasOuter(hops []*nextHop) bool {
	return slices.ContainsFunc(hops, func(hop *nextHop) bool { return !hop.isInner() })
}

// settle brings an inner next hop, and what forwards through it, to the pool's
// present route.
func (t *Table) settle(hop *nextHop) {
	now := t.throughPool(hop.addr)
	if now == *hop.through {
		return
	}
	*hop.through = now
	t.redecideThrough(hop)
}

// settleInside settles the inner next hops inside a prefix whose decision
// changed.
func (t *Table) settleInside(prefix netip.Prefix) {
	if len(t.inner) == 0 || t.poolOf(prefix) < 0 {
		return
	}
	at, _ := slices.BinarySearchFunc(t.inner, prefix.Addr(), compareHop)
	for _, hop := range t.inner[at:] {
		if !prefix.Contains(hop.addr) {
			return // sorted: none behind it is inside either
		}
		t.settle(hop)
	}
}

// appendThrough appends the members that reach an inner next hop: a pod of this
// node as a gateway on its own device, else what the pool's route has.
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
