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

func (k *Kernel) setUp(dev string) error { return k.SetLink(dev, true) }

// SetLink sets a device up or down: a pulled cable.
func (k *Kernel) SetLink(dev string, up bool) error {
	set := k.Link.LinkSetDown
	if up {
		set = k.Link.LinkSetUp
	}
	return k.change("set state of", dev, set)
}

// DeleteLink removes a device.
func (k *Kernel) DeleteLink(dev string) error { return k.change("delete", dev, k.Link.LinkDel) }

// SetMTU sets a device's MTU in bytes.
func (k *Kernel) SetMTU(dev string, mtu int) error {
	return k.change("set mtu of", dev, func(l netlink.Link) error { return k.Link.LinkSetMTU(l, mtu) })
}

// MTU returns a device's MTU in bytes.
func (k *Kernel) MTU(dev string) (mtu int, err error) {
	err = k.change("read mtu of", dev, func(l netlink.Link) error { mtu = l.Attrs().MTU; return nil })
	return mtu, err
}

// IsUp reports an error when a device is absent or not up.
func (k *Kernel) IsUp(dev string) error {
	return k.change("look at", dev, func(l netlink.Link) error {
		if l.Attrs().Flags&net.FlagUp == 0 {
			return unix.ENETDOWN
		}
		return nil
	})
}

// renameAttempts bounds how often [Kernel.Rename] sets a device down that somebody
// else sets up again.
const renameAttempts = 100

// Rename gives a device another name; it stays up, or where the kernel
// (before 6.5) wants that, goes down for a moment. Whoever repairs devices may
// set it up in that moment, which makes the kernel refuse the name, or take it
// away once it has its new name: the one is tried again, the other is no error.
func (k *Kernel) Rename(dev, name string) error {
	return k.change("rename", dev, func(l netlink.Link) error {
		err := k.Link.LinkSetName(l, name)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		for range renameAttempts {
			if err := k.Link.LinkSetDown(l); err != nil {
				return err
			}
			if err = k.Link.LinkSetName(l, name); !errors.Is(err, unix.EBUSY) {
				break
			}
		}
		if err != nil {
			return err
		}
		if err := k.Link.LinkSetUp(l); !errors.Is(err, unix.ENODEV) {
			return err
		}
		return nil
	})
}

// AddAddr adds an address to a device; IPv6 ones skip duplicate detection, so
// that they work at once.
func (k *Kernel) AddAddr(dev string, p netip.Prefix) error {
	addr := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return k.change("add address "+p.String()+" to", dev, func(l netlink.Link) error { return k.Link.AddrAdd(l, addr) })
}

// DeleteAddr removes an address from a device.
func (k *Kernel) DeleteAddr(dev string, p netip.Prefix) error {
	return k.change("delete address of", dev, func(l netlink.Link) error {
		return k.Link.AddrDel(l, &netlink.Addr{IPNet: ipNet(p)})
	})
}

// AddBond makes an active-backup bond (ieee 802.1AX is not needed), up. The
// error is the kernel's EOPNOTSUPP where it has no bonds.
func (k *Kernel) AddBond(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	bond := netlink.NewLinkBond(attrs)
	bond.Mode, bond.Miimon = netlink.BOND_MODE_ACTIVE_BACKUP, 50
	if err := k.Link.LinkAdd(bond); err != nil {
		return fmt.Errorf("add bond in %s: %w", k.Name, err)
	}
	return k.setUp(name)
}

// Enslave puts a device, which must be down, under a master, and sets it up.
func (k *Kernel) Enslave(dev, master string) error {
	up, err := k.link(master)
	if err != nil {
		return err
	}
	err = k.change("enslave", dev, func(l netlink.Link) error { return k.Link.LinkSetMaster(l, up) })
	if err != nil {
		return err
	}
	return k.setUp(dev)
}

// HasAddr reports an error when a device lacks an address.
func (k *Kernel) HasAddr(dev string, p netip.Prefix) error {
	return k.change("find address on", dev, func(l netlink.Link) error {
		family := netlink.FAMILY_V4
		if p.Addr().Is6() {
			family = netlink.FAMILY_V6
		}
		list, err := k.Link.AddrList(l, family)
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
func (k *Kernel) SetNeighbour(dev string, a netip.Addr, mac net.HardwareAddr) error {
	return k.change("neighbour "+a.String(), dev, func(l netlink.Link) error {
		return k.Link.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: a.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT})
	})
}

// DeleteNeighbour removes a device's permanent neighbour entry.
func (k *Kernel) DeleteNeighbour(dev string, a netip.Addr) error {
	return k.change("delete neighbour of", dev, func(l netlink.Link) error {
		return k.Link.NeighDel(&netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: a.AsSlice()})
	})
}

// DeleteForwarding removes a device's own forwarding entry (FDB) to a far end.
func (k *Kernel) DeleteForwarding(dev string, mac net.HardwareAddr, far netip.Addr) error {
	return k.change("delete forwarding entry of", dev, func(l netlink.Link) error {
		return k.Link.NeighDel(&netlink.Neigh{LinkIndex: l.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, HardwareAddr: mac, IP: far.AsSlice()})
	})
}

// Tunnelled returns the far ends among a VXLAN device's own forwarding entries,
// and the neighbours that it knows for good; sorted.
func (k *Kernel) Tunnelled(dev string) (far, neighbours []netip.Addr, err error) {
	l, err := k.link(dev)
	if err != nil {
		return nil, nil, err
	}
	for family, list := range map[int]*[]netip.Addr{unix.AF_BRIDGE: &far, unix.AF_INET: &neighbours, unix.AF_INET6: &neighbours} {
		entries, err := dump.Neighbours(k.Link, l.Attrs().Index, family)
		if err != nil {
			return nil, nil, fmt.Errorf("neighbours of %s in %s: %w", dev, k.Name, err)
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
