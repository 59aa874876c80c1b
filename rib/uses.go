package rib

import (
	"net/netip"
	"slices"
)

// Use is one address of [Table.NextHops], and the routes that have it as next hop.
type Use struct {
	Addr  netip.Addr
	Reach Reach
	Node  bool         // another node, see [Table.Nodes]
	Peers []netip.Addr // that announce the routes, ascending
	// Routes are all of them. A route with several next hops is a use of each.
	Routes int
	// Direct, Tunnelled, Unresolved and Failing are parts of Routes: forwarded without
	// a tunnel, forwarded by a tunnel device at least in part, not for the kernel, and
	// decided but not in the kernel.
	Direct, Tunnelled, Unresolved, Failing int
	Devices                                []string       // that forward them, sorted
	Prefixes                               []netip.Prefix // the first of them, ascending
}

// Uses returns the addresses that the table follows, in address order, with at most
// shown prefixes each. It visits each route once a next hop. Failing reports whether
// the kernel does not hold a prefix.
func (t *Table) Uses(shown int, failing func(netip.Prefix) bool) []Use {
	nodes := t.Nodes()
	out := make([]Use, 0, len(t.hops.sorted))
	for _, hop := range t.hops.sorted {
		if !hop.addr.IsValid() {
			continue
		}
		u := Use{Addr: hop.addr, Reach: hop.reach}
		_, u.Node = slices.BinarySearchFunc(nodes, hop.addr, netip.Addr.Compare)
		for _, w := range hop.ways {
			u.peers(w)
			for e := w.first; e != nil; e = e.next {
				u.count(e, failing(e.prefix))
				u.show(e.prefix, shown)
			}
		}
		out = append(out, u)
	}
	return out
}

// peers adds the peers that announce routes of w with the next hop.
func (u *Use) peers(w *ways) {
	for _, p := range w.set {
		if at, known := slices.BinarySearchFunc(u.Peers, p.peer, netip.Addr.Compare); p.nextHop == u.Addr && !known {
			u.Peers = slices.Insert(u.Peers, at, p.peer)
		}
	}
}

// count adds a route.
func (u *Use) count(e *entry, failing bool) {
	u.Routes++
	if e.now.kind != Unicast {
		u.Unresolved++
		return
	}
	tunnelled := false
	for h := range e.now.hops.All() {
		tunnelled = tunnelled || h.Tunnel
		if at, known := slices.BinarySearch(u.Devices, h.Dev); !known {
			u.Devices = slices.Insert(u.Devices, at, h.Dev)
		}
	}
	switch {
	case failing:
		u.Failing++
	case tunnelled:
		u.Tunnelled++
	default:
		u.Direct++
	}
}

// show keeps the first prefixes.
func (u *Use) show(p netip.Prefix, most int) {
	at, _ := slices.BinarySearchFunc(u.Prefixes, p, comparePrefix)
	if at >= most {
		return
	}
	u.Prefixes = slices.Insert(u.Prefixes, at, p)
	u.Prefixes = u.Prefixes[:min(len(u.Prefixes), most)]
}
