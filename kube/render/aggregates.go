package render

import (
	"fmt"
	"net/netip"
	"slices"

	"onlink/kube/api/v1alpha1"
)

// aggregate is a prefix that is announced in place of addresses.
type aggregate struct {
	ann      Announcement // of the first address
	everyone bool
	members  int
}

// aggregateOf returns the prefix in place of an address, as the first advertisement
// has it. A prefix that would attract the packets of pods or machines is none: the
// address is announced by itself.
func (a *announcer) aggregateOf(addr netip.Addr, advs []*advertisement) (netip.Prefix, bool) {
	p := a.wanted(addr, advs[0])
	if !p.IsValid() || p.Bits() >= addr.BitLen() {
		return netip.Prefix{}, false
	}
	why, known := a.unfit[p]
	if !known {
		why = a.attracts(p)
		a.unfit[p] = why
		if why != "" {
			a.l.problem("ServiceAdvertisement %s: spec.aggregate: %s has %s inside, so its addresses are announced one by one: use a longer prefix", advs[0].name, p, why)
		}
	}
	return p, why == ""
}

func (a *announcer) wanted(addr netip.Addr, adv *advertisement) netip.Prefix {
	if adv.frozen {
		was, ok := a.around(host(addr))
		if !ok {
			return netip.Prefix{}
		}
		p, err := netip.ParsePrefix(was.Prefix)
		if err != nil {
			return netip.Prefix{}
		}
		return p.Masked()
	}
	return wantedBy(addr, adv.aggregate, a.pools)
}

func wantedBy(addr netip.Addr, g v1alpha1.ServiceAggregate, pools *poolSet) netip.Prefix {
	bits := g.IPv6
	if addr.Is4() {
		bits = g.IPv4
	}
	switch {
	case g.Pool:
		p, _ := pools.forServices(addr)
		return p
	case bits > 0:
		return netip.PrefixFrom(addr, int(bits)).Masked()
	}
	return netip.Prefix{}
}

// attracts returns what else than Services is inside a prefix; "": nothing.
func (a *announcer) attracts(p netip.Prefix) string {
	if pool, ok := a.pools.overlapping(p); ok {
		return fmt.Sprintf("%s of IPPool %s", pool.cidr, pool.name)
	}
	if i := slices.IndexFunc(unrouted, p.Overlaps); i >= 0 {
		return unrouted[i].String()
	}
	var found []netip.Addr
	for addr := range a.machines {
		if p.Contains(addr) {
			found = append(found, addr)
		}
	}
	if len(found) == 0 {
		return ""
	}
	first := slices.MinFunc(found, netip.Addr.Compare)
	return fmt.Sprintf("the address %s of %s", first, a.machines[first])
}

// join adds an address to an aggregate. Addresses come in order: the attributes
// are those of the first, and the peers those of all.
func (a *announcer) join(p netip.Prefix, ann Announcement) {
	g, ok := a.aggregates[p]
	if !ok {
		ann.Prefix = p.String()
		g = &aggregate{ann: ann, everyone: len(ann.Peers) == 0}
		a.aggregates[p] = g
	}
	g.members++
	g.everyone = g.everyone || len(ann.Peers) == 0
	g.ann.Peers = append(slices.Clone(g.ann.Peers), ann.Peers...)
	slices.Sort(g.ann.Peers)
	g.ann.Peers = slices.Compact(g.ann.Peers)
	if g.everyone {
		g.ann.Peers = nil
	}
}

func (g *aggregate) announcement(draining bool) Announcement {
	out := g.ann
	out.Reason = "aggregate of 1 address of Services"
	if g.members > 1 {
		out.Reason = fmt.Sprintf("aggregate of %d addresses of Services", g.members)
	}
	if out.GracefulShutdown = draining; draining {
		out.Reason = "this node is being drained; " + out.Reason
	}
	return out.final()
}
