package underlay

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"onlink/rib"
)

// Address is one address of this node, on a device that is not onlink's.
type Address struct {
	Addr   netip.Addr
	Subnet netip.Prefix // the network, or the other end of a point-to-point link
	Dev    string
	// Kind is the kind of the device as ip-link(8) names it: bridge, veth and
	// so on; "": hardware; "loopback".
	Kind   string
	Master string // the bridge, bond or VRF that the device belongs to; "": none
	Lower  string // the device below a VLAN or macvlan, in this namespace; "": none
	// Global is false for addresses of link or host scope.
	Global bool
	// Pending says that duplicate address detection (RFC 4862 section 5.4) has
	// not ended yet: the address is of use in a second or so.
	Pending bool
	// Fault is the reason that the address is not for new uses, such as
	// "deprecated"; "": there is none.
	Fault string
	// Secondary is an IPv4 address behind another one of its network.
	Secondary bool
}

// Addresses returns the node's addresses, except those to which no other machine
// can send (link-local, 127.0.0.0/8, ::1), the oldest of each device first;
// devices come in the order of their indexes.
func (w *Watcher) Addresses() []Address {
	s := w.current.Load()
	addrs := slices.Clone(s.addrs)
	slices.SortStableFunc(addrs, func(a, b nodeAddr) int {
		return cmp.Or(cmp.Compare(a.device, b.device), cmp.Compare(a.order, b.order))
	})
	out := make([]Address, 0, len(addrs))
	for _, a := range addrs {
		if a.local.IsLoopback() {
			continue
		}
		l := s.devices[s.byIndex[a.device]]
		one := Address{
			Addr: a.local, Subnet: a.subnet, Dev: l.name, Kind: l.kind, Master: s.byIndex[l.master], Lower: s.byIndex[l.lower],
			Global: a.scope == unix.RT_SCOPE_UNIVERSE, Pending: a.pending(), Fault: a.fault(l),
			Secondary: a.local.Is4() && a.flags&unix.IFA_F_SECONDARY != 0,
		}
		if l.loopback {
			one.Kind = "loopback"
		}
		out = append(out, one)
	}
	return out
}

// pending reports whether duplicate address detection is still under way.
func (a nodeAddr) pending() bool {
	return a.flags&unix.IFA_F_TENTATIVE != 0 && a.flags&unix.IFA_F_DADFAILED == 0
}

// fault returns the reason that an address is not for new uses, "" for none.
func (a nodeAddr) fault(l link) string {
	switch {
	case a.flags&unix.IFA_F_DADFAILED != 0:
		return "another machine has it (dadfailed)"
	case a.flags&unix.IFA_F_TENTATIVE != 0:
		return "tentative"
	case a.flags&unix.IFA_F_DEPRECATED != 0:
		return "deprecated (preferred_lft 0)"
	case a.local.Is6() && a.flags&unix.IFA_F_TEMPORARY != 0:
		return "temporary (RFC 8981)"
	case a.local.Is6() && a.subnet.Bits() < 127 && a.local == a.subnet.Addr():
		return "the anycast address of all routers of its network (RFC 4291)"
	case l.virtual:
		return "of a virtual router (VRRP)"
	}
	return ""
}

// Network is a range of addresses that this node reaches without onlink.
type Network struct {
	Prefix netip.Prefix
	Dev    string
	// Via marks Prefix as a gateway's address; otherwise it is a network on the
	// wire of Dev, or an address of the node's own.
	Via bool
}

// Networks returns the ranges connected to the node, over devices that are not
// onlink's: the networks of its addresses, networks that a route puts on a
// device's wire, and the gateways of its routes. Each prefix comes once. Single
// addresses of the loopback device are left out: they have no network, and no
// route takes them over.
func (w *Watcher) Networks() []Network {
	s := w.current.Load()
	found := map[netip.Prefix]Network{}
	add := func(p netip.Prefix, dev string, via bool) {
		a := p.Addr()
		if p.Bits() == 0 || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() {
			return
		}
		// A gateway before an address, then the first device by name, so that the
		// order of routes does not matter.
		n := Network{p, dev, via}
		if old, known := found[p]; !known || n.Via && !old.Via || n.Via == old.Via && n.Dev < old.Dev {
			found[p] = n
		}
	}
	for _, a := range s.addrs {
		dev := s.byIndex[a.device]
		if s.devices[dev].loopback && a.subnet.IsSingleIP() {
			continue
		}
		add(a.subnet, dev, false)
		add(netip.PrefixFrom(a.local, a.local.BitLen()), dev, false)
	}
	for p, a := range s.main.answers {
		for h := range a.reach.Hops.All() {
			if h.Via.IsValid() {
				add(netip.PrefixFrom(h.Via, h.Via.BitLen()), h.Dev, true)
			} else if a.reach.Kind == rib.OnLink {
				add(p, h.Dev, false)
			}
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Network) int { return a.Prefix.Compare(b.Prefix) })
}
