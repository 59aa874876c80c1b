package rib

import (
	"cmp"
	"net/netip"
	"slices"
)

// ownership has the owners of prefixes and addresses: the pools, this node's part
// of them, and the bounds of learned routes.
type ownership struct {
	pools  []Pool // longest prefix first, so the first match is the pool
	permit Permit
	blocks []netip.Prefix          // this node's
	summed []netip.Prefix          // aggregates that this node announces
	pods   map[netip.Prefix]string // this node's, and their devices
}

// setPools replaces the pools and reports whether they differ.
func (o *ownership) setPools(pools []Pool) bool {
	pools = slices.Clone(pools)
	for i := range pools {
		pools[i].Prefix = pools[i].Prefix.Masked()
	}
	pools = slices.DeleteFunc(pools, func(p Pool) bool { return !p.Prefix.IsValid() })
	slices.SortStableFunc(pools, func(a, b Pool) int {
		return cmp.Or(cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()), a.Prefix.Addr().Compare(b.Prefix.Addr()))
	})
	if slices.Equal(pools, o.pools) {
		return false
	}
	o.pools = pools
	return true
}

// setPermit replaces the bounds of learned routes and reports whether they
// differ.
func (o *ownership) setPermit(p Permit) bool {
	p = p.clone()
	p.Prefixes, p.NodeSubnets = normalize(p.Prefixes), normalize(p.NodeSubnets)
	p.Peers, p.PoolPeers = normalizeAddrs(p.Peers), normalizeAddrs(p.PoolPeers)
	if p.equal(&o.permit) {
		return false
	}
	o.permit = p
	return true
}

// poolOf returns the index of the most specific pool that covers prefix, or -1.
func (o *ownership) poolOf(prefix netip.Prefix) int {
	return slices.IndexFunc(o.pools, func(p Pool) bool { return covers(p.Prefix, prefix) })
}

// classOf returns the class of an address. One of a connected network belongs to
// that, also where a pool overlaps the network. A configured peer may have any
// address: some fabrics number their links from 169.254.0.0/16.
func (o *ownership) classOf(addr netip.Addr) hopClass {
	var connected netip.Prefix // the longest
	for _, p := range o.permit.NodeSubnets {
		if p.Contains(addr) && p.Bits() >= connected.Bits() {
			connected = p
		}
	}
	switch {
	case (martianAddr(addr) || isEdge(connected, addr)) && !slices.Contains(o.permit.Peers, addr):
		return martianHop
	case !connected.IsValid() && slices.ContainsFunc(o.pools, func(p Pool) bool { return p.Prefix.Contains(addr) }):
		return innerHop
	}
	return outerHop
}

// isNode reports whether w has a route into a pool whose next hop is hop as a
// node.
func (o *ownership) isNode(hop *nextHop, w *ways) bool {
	return w.pooled > 0 && slices.ContainsFunc(w.set, func(p way) bool {
		switch {
		case p.nextHop != hop.addr:
			return false
		case !p.ebgp:
			return true
		}
		_, named := slices.BinarySearchFunc(o.permit.PoolPeers, p.peer, netip.Addr.Compare)
		return named && (p.peer != hop.addr || hop.reach.Kind != OnLink)
	})
}

// normalize returns the valid prefixes, masked, sorted, each once.
func normalize(prefixes []netip.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(prefixes))
	for _, p := range prefixes {
		if p = p.Masked(); p.IsValid() {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, comparePrefix)
	return slices.Compact(out)
}

// normalizeAddrs returns the addresses, IPv4-mapped ones as IPv4, sorted, each
// once. It changes the slice.
func normalizeAddrs(addrs []netip.Addr) []netip.Addr {
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// comparePrefix orders by family, address and length, the shorter first.
func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
