package render

import (
	"fmt"
	"net/netip"
	"slices"
)

// aggregates are the prefixes that are announced in place of addresses.
type aggregates struct {
	l        *ledger
	pools    *poolSet
	machines map[netip.Addr]string
	unfit    map[netip.Prefix]string // why a prefix cannot be an aggregate; "": it can
	joined   map[netip.Prefix]*aggregate
}

// aggregate is one of them.
type aggregate struct {
	ann      Announcement // of the first address
	everyone bool
	members  int
}

// fit reports whether a prefix can be announced in place of an address, as an
// advertisement has it. One that would attract the packets of pods or machines
// cannot: the address is announced by itself.
func (g *aggregates) fit(p netip.Prefix, adv string) bool {
	if !p.IsValid() || p.IsSingleIP() {
		return false
	}
	why, known := g.unfit[p]
	if !known {
		why = g.attracts(p)
		g.unfit[p] = why
		if why != "" {
			g.l.problem("ServiceAdvertisement %s: spec.aggregate: %s has %s inside, so its addresses are announced one by one: use a longer prefix", adv, p, why)
		}
	}
	return why == ""
}

// attracts returns what else than Services is inside a prefix; "": nothing.
func (g *aggregates) attracts(p netip.Prefix) string {
	if pool, ok := g.pools.overlapping(p); ok {
		return fmt.Sprintf("%s of IPPool %s", pool.cidr, pool.name)
	}
	if i := slices.IndexFunc(unrouted, p.Overlaps); i >= 0 {
		return unrouted[i].String()
	}
	var found []netip.Addr
	for addr := range g.machines {
		if p.Contains(addr) {
			found = append(found, addr)
		}
	}
	if len(found) == 0 {
		return ""
	}
	first := slices.MinFunc(found, netip.Addr.Compare)
	return fmt.Sprintf("the address %s of %s", first, g.machines[first])
}

// join adds an address to an aggregate. Addresses come in order: the attributes
// are those of the first, and the peers those of all.
func (g *aggregates) join(p netip.Prefix, ann Announcement) {
	a, ok := g.joined[p]
	if !ok {
		ann.Prefix = p.String()
		a = &aggregate{ann: ann, everyone: len(ann.Peers) == 0}
		g.joined[p] = a
	}
	a.members++
	a.everyone = a.everyone || len(ann.Peers) == 0
	a.ann.Peers = append(slices.Clone(a.ann.Peers), ann.Peers...)
	slices.Sort(a.ann.Peers)
	a.ann.Peers = slices.Compact(a.ann.Peers)
	if a.everyone {
		a.ann.Peers = nil
	}
}

func (a *aggregate) announcement(draining bool) Announcement {
	out := a.ann
	out.Reason = "aggregate of 1 address of Services"
	if a.members > 1 {
		out.Reason = fmt.Sprintf("aggregate of %d addresses of Services", a.members)
	}
	if out.GracefulShutdown = draining; draining {
		out.Reason = "this node is being drained; " + out.Reason
	}
	return out.final()
}
