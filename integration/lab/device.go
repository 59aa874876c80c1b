package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/dump"
)

// What an operator does to devices and addresses by hand, or a cable or a
// switch by itself.

// link finds a device by name.
func (ns *NS) link(dev string) (netlink.Link, error) {
	link, err := ns.Link.LinkByName(dev)
	if err != nil {
		return nil, fmt.Errorf("find %s in %s: %w", dev, ns.Name, err)
	}
	return link, nil
}

// change does something to a device.
func (ns *NS) change(what, dev string, f func(netlink.Link) error) error {
	link, err := ns.link(dev)
	if err == nil {
		err = f(link)
	}
	if err != nil {
		return fmt.Errorf("%s %s in %s: %w", what, dev, ns.Name, err)
	}
	return nil
}

// SetMTU sets a device's MTU in bytes.
func (ns *NS) SetMTU(dev string, mtu int) error {
	return ns.change("set mtu of", dev, func(l netlink.Link) error { return ns.Link.LinkSetMTU(l, mtu) })
}

// MTU returns a device's MTU in bytes.
func (ns *NS) MTU(dev string) (mtu int, err error) {
	err = ns.change("read mtu of", dev, func(l netlink.Link) error { mtu = l.Attrs().MTU; return nil })
	return mtu, err
}

// IsUp reports an error when a device is absent or not up.
func (ns *NS) IsUp(dev string) error {
	return ns.change("look at", dev, func(l netlink.Link) error {
		if l.Attrs().Flags&net.FlagUp == 0 {
			return unix.ENETDOWN
		}
		return nil
	})
}

// renameAttempts bounds how often [NS.Rename] sets a device down that somebody
// else sets up again.
const renameAttempts = 100

// Rename gives a device another name; it stays up, or where the kernel
// (before 6.5) wants that, goes down for a moment. Whoever repairs devices may
// set it up in that moment, which makes the kernel refuse the name, or take it
// away once it has its new name: the one is tried again, the other is no error.
func (ns *NS) Rename(dev, name string) error {
	return ns.change("rename", dev, func(l netlink.Link) error {
		err := ns.Link.LinkSetName(l, name)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		for range renameAttempts {
			if err := ns.Link.LinkSetDown(l); err != nil {
				return err
			}
			if err = ns.Link.LinkSetName(l, name); !errors.Is(err, unix.EBUSY) {
				break
			}
		}
		if err != nil {
			return err
		}
		if err := ns.Link.LinkSetUp(l); !errors.Is(err, unix.ENODEV) {
			return err
		}
		return nil
	})
}

// AskAgainSoon makes a device ask for an IPv6 neighbour that does not answer
// again after 0.1 s instead of 1 s. An address is tentative for an instant
// after its link came up, even without duplicate detection, and whoever asks
// for it in that instant gets no answer.
func (ns *NS) AskAgainSoon(dev string) error {
	return ns.Sysctl("net/ipv6/neigh/"+dev+"/retrans_time_ms", "100")
}

// AddAddr adds an address to a device.
func (ns *NS) AddAddr(dev string, p netip.Prefix) error { return ns.addAddr(dev, p) }

// DeleteAddr removes an address from a device.
func (ns *NS) DeleteAddr(dev string, p netip.Prefix) error {
	return ns.change("delete address of", dev, func(l netlink.Link) error {
		return ns.Link.AddrDel(l, &netlink.Addr{IPNet: ipNet(p)})
	})
}

// AddBond makes an active-backup bond (ieee 802.1AX is not needed), up. The
// error is the kernel's EOPNOTSUPP where it has no bonds.
func (ns *NS) AddBond(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	bond := netlink.NewLinkBond(attrs)
	bond.Mode, bond.Miimon = netlink.BOND_MODE_ACTIVE_BACKUP, 50
	if err := ns.Link.LinkAdd(bond); err != nil {
		return fmt.Errorf("add bond in %s: %w", ns.Name, err)
	}
	return ns.setUp(name)
}

// Enslave puts a device, which must be down, under a master, and sets it up.
func (ns *NS) Enslave(dev, master string) error {
	up, err := ns.link(master)
	if err != nil {
		return err
	}
	err = ns.change("enslave", dev, func(l netlink.Link) error { return ns.Link.LinkSetMaster(l, up) })
	if err != nil {
		return err
	}
	return ns.setUp(dev)
}

// Gateway is one way of a route; the zero Via means that the destination is on
// the device itself.
type Gateway struct {
	Via netip.Addr
	Dev string // may be empty when Via says it
}

// SetRoute adds or replaces a static route of table main through one or more
// gateways.
func (ns *NS) SetRoute(dst netip.Prefix, ways ...Gateway) error {
	r := &netlink.Route{Dst: ipNet(dst), Protocol: unix.RTPROT_STATIC}
	for _, w := range ways {
		hop := &netlink.NexthopInfo{}
		switch {
		case !w.Via.IsValid():
		case w.Via.Is6() && dst.Addr().Is4(): // RFC 8950
			hop.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: w.Via.AsSlice()}
		default:
			hop.Gw = net.IP(w.Via.AsSlice())
		}
		if w.Dev != "" {
			link, err := ns.link(w.Dev)
			if err != nil {
				return err
			}
			hop.LinkIndex = link.Attrs().Index
		}
		r.MultiPath = append(r.MultiPath, hop)
	}
	if len(ways) == 1 {
		r.Gw, r.Via, r.LinkIndex, r.MultiPath = r.MultiPath[0].Gw, r.MultiPath[0].Via, r.MultiPath[0].LinkIndex, nil
		if r.Gw == nil && r.Via == nil {
			r.Scope = unix.RT_SCOPE_LINK
		}
	}
	if err := ns.Link.RouteReplace(r); err != nil {
		return fmt.Errorf("set route %s in %s: %w", dst, ns.Name, err)
	}
	return nil
}

// Wire joins device dev of one namespace with device farDev of another, both
// up: a cable that no [Spec] has.
func Wire(a *NS, dev string, b *NS, farDev string) error { return wire(a, dev, b, farDev) }

// HasAddr reports an error when a device lacks an address.
func (ns *NS) HasAddr(dev string, p netip.Prefix) error {
	return ns.change("find address on", dev, func(l netlink.Link) error {
		family := netlink.FAMILY_V4
		if p.Addr().Is6() {
			family = netlink.FAMILY_V6
		}
		list, err := ns.Link.AddrList(l, family)
		if err != nil {
			return err
		}
		for _, a := range list {
			if a.IPNet.String() == p.String() {
				return nil
			}
		}
		return fmt.Errorf("no %s among %v", p, list)
	})
}

// SetNeighbour gives an address on a device a MAC address for good, as
// `ip neigh replace ... nud permanent` does: one that nobody has loses all that
// is sent there.
func (ns *NS) SetNeighbour(dev string, a netip.Addr, mac net.HardwareAddr) error {
	return ns.change("neighbour "+a.String(), dev, func(l netlink.Link) error {
		return ns.Link.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: a.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT})
	})
}

// DeleteNeighbour removes a device's permanent neighbour entry.
func (ns *NS) DeleteNeighbour(dev string, a netip.Addr) error {
	return ns.change("delete neighbour of", dev, func(l netlink.Link) error {
		return ns.Link.NeighDel(&netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: a.AsSlice()})
	})
}

// DeleteForwarding removes a device's own forwarding entry (FDB) to a far end.
func (ns *NS) DeleteForwarding(dev string, mac net.HardwareAddr, far netip.Addr) error {
	return ns.change("delete forwarding entry of", dev, func(l netlink.Link) error {
		return ns.Link.NeighDel(&netlink.Neigh{LinkIndex: l.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, HardwareAddr: mac, IP: far.AsSlice()})
	})
}

// Tunnelled returns the far ends among a VXLAN device's own forwarding entries,
// and the neighbours that it knows for good; sorted.
func (ns *NS) Tunnelled(dev string) (far, neighbours []netip.Addr, err error) {
	l, err := ns.link(dev)
	if err != nil {
		return nil, nil, err
	}
	for family, list := range map[int]*[]netip.Addr{unix.AF_BRIDGE: &far, unix.AF_INET: &neighbours, unix.AF_INET6: &neighbours} {
		entries, err := dump.Neighbours(ns.Link, l.Attrs().Index, family)
		if err != nil {
			return nil, nil, fmt.Errorf("neighbours of %s in %s: %w", dev, ns.Name, err)
		}
		for _, e := range entries {
			if a, ok := netip.AddrFromSlice(e.IP); ok && e.State&netlink.NUD_PERMANENT != 0 {
				*list = append(*list, a.Unmap())
			}
		}
	}
	slices.SortFunc(far, netip.Addr.Compare)
	slices.SortFunc(neighbours, netip.Addr.Compare)
	return far, neighbours, nil
}

// RemoveRoute removes a static route that [NS.SetRoute] made.
func (ns *NS) RemoveRoute(dst netip.Prefix) error {
	if err := ns.Link.RouteDel(&netlink.Route{Dst: ipNet(dst), Protocol: unix.RTPROT_STATIC}); err != nil {
		return fmt.Errorf("remove route %s in %s: %w", dst, ns.Name, err)
	}
	return nil
}
