package underlay

import (
	"net/netip"
	"slices"

	"onlink/rib"
)

// Reach returns how the kernel, without onlink's routes, reaches a next hop. It
// implements [rib.Resolver]. Before [Watcher.Load] nothing is reachable.
func (w *Watcher) Reach(nextHop netip.Addr) rib.Reach {
	return w.current.Load().reach(nextHop.Unmap())
}

// Addrs returns the addresses of this node to which others may send: not on
// loopback's own network, not link-local, not on onlink's devices; sorted.
func (w *Watcher) Addrs() []netip.Addr {
	var out []netip.Addr
	for _, a := range w.current.Load().addrs {
		if !a.local.IsLoopback() {
			out = append(out, a.local)
		}
	}
	return slices.Compact(out)
}

// Subnets returns the connected networks of this node, link-local ones left
// out; sorted by address.
func (w *Watcher) Subnets() []netip.Prefix {
	var out []netip.Prefix
	for _, a := range w.current.Load().addrs {
		out = append(out, a.subnet)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// MTU returns the MTU of a device in bytes, 0 when there is none of that name
// or it is one of onlink's own.
func (w *Watcher) MTU(dev string) int { return w.current.Load().devices[dev].mtu }

// LinkFor returns the device that carries traffic from the node's address, and
// its MTU in bytes: the device of the address. An address on the loopback device
// (a node with several uplinks) leaves through any of the devices with a gateway
// route of its family, so the one with the smallest MTU is returned. The device
// is "" when the address is not ours.
func (w *Watcher) LinkFor(addr netip.Addr) (dev string, mtu int) {
	s := w.current.Load()
	addr = addr.Unmap()
	at := slices.IndexFunc(s.addrs, func(a nodeAddr) bool { return a.local == addr })
	if at < 0 {
		return "", 0
	}
	dev = s.byIndex[s.addrs[at].device]
	if l := s.devices[dev]; !l.loopback {
		return dev, l.mtu
	}
	return s.narrowestUplink(addr.Is4(), dev)
}

// narrowestUplink returns the device with the smallest MTU among those with a
// gateway route of the family; dev and its MTU when there is none.
func (s *snapshot) narrowestUplink(v4 bool, dev string) (string, int) {
	best := s.devices[dev]
	found := false
	for p, a := range s.main.answers {
		if p.Addr().Is4() != v4 || a.reach.Kind != rib.Gateway {
			continue
		}
		for h := range a.reach.Hops.All() {
			l := s.devices[h.Dev]
			if !found || l.mtu < best.mtu || l.mtu == best.mtu && l.name < best.name {
				best, found = l, true
			}
		}
	}
	return best.name, best.mtu
}

// Problem describes a set-up in which the answers may differ from the kernel's,
// for the operator; "" when there is none.
func (w *Watcher) Problem() string { return w.current.Load().problem }
