package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Kernel reads and changes the devices, addresses, neighbours and routes of one
// network namespace over route netlink: what an operator does with ip(8). It
// starts nothing in the namespace; see [NS].
type Kernel struct {
	Name string          // of the namespace, as in `ip netns exec NAME`
	Link *netlink.Handle // route netlink inside the namespace
}

// link finds a device by name.
func (k *Kernel) link(dev string) (netlink.Link, error) {
	link, err := k.Link.LinkByName(dev)
	if err != nil {
		return nil, fmt.Errorf("find %s in %s: %w", dev, k.Name, err)
	}
	return link, nil
}

// change does something to a device.
func (k *Kernel) change(what, dev string, f func(netlink.Link) error) error {
	link, err := k.link(dev)
	if err == nil {
		err = f(link)
	}
	if err != nil {
		return fmt.Errorf("%s %s in %s: %w", what, dev, k.Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
