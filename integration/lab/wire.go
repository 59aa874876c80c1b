package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// wire joins device devA of a with device devB of b by a veth pair, both up.
// The far end is made right in its namespace: no rename, no move.
func wire(a *NS, devA string, b *NS, devB string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = devA
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: devB, PeerNamespace: netlink.NsFd(int(b.fd))}
	if err := a.Link.LinkAdd(veth); err != nil {
		return fmt.Errorf("wire %s/%s to %s/%s: %w", a.Name, devA, b.Name, devB, err)
	}
	if err := a.setUp(devA); err != nil {
		return err
	}
	return b.setUp(devB)
}

// addBridge makes the namespace a switch with one bridge, br0.
func (ns *NS) addBridge() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	snoop := false
	if err := ns.Link.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snoop}); err != nil {
		return fmt.Errorf("add bridge in %s: %w", ns.Name, err)
	}
	return ns.setUp("br0")
}

// plug connects host's device dev to the switch sw at the port named port.
func plug(sw *NS, port string, host *NS, dev string) error {
	if err := wire(sw, port, host, dev); err != nil {
		return err
	}
	bridge, err := sw.Link.LinkByName("br0")
	if err != nil {
		return fmt.Errorf("find br0 in %s: %w", sw.Name, err)
	}
	link, err := sw.Link.LinkByName(port)
	if err != nil {
		return fmt.Errorf("find port %s in %s: %w", port, sw.Name, err)
	}
	if err := sw.Link.LinkSetMaster(link, bridge); err != nil {
		return fmt.Errorf("plug %s into %s: %w", port, sw.Name, err)
	}
	return nil
}

func (ns *NS) setUp(dev string) error { return ns.setState(dev, true) }

// setState sets a device up or down.
func (ns *NS) setState(dev string, up bool) error {
	link, err := ns.Link.LinkByName(dev)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", dev, ns.Name, err)
	}
	set := ns.Link.LinkSetDown
	if up {
		set = ns.Link.LinkSetUp
	}
	if err := set(link); err != nil {
		return fmt.Errorf("set state of %s in %s: %w", dev, ns.Name, err)
	}
	return nil
}

// SetLink sets a device up or down: a pulled cable.
func (ns *NS) SetLink(dev string, up bool) error { return ns.setState(dev, up) }

// DeleteLink removes a device.
func (ns *NS) DeleteLink(dev string) error {
	link, err := ns.Link.LinkByName(dev)
	if err == nil {
		err = ns.Link.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("delete %s in %s: %w", dev, ns.Name, err)
	}
	return nil
}

// addAddr puts an address on a device; IPv6 ones skip duplicate detection, so
// that they work at once.
func (ns *NS) addAddr(dev string, p netip.Prefix) error {
	link, err := ns.Link.LinkByName(dev)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", dev, ns.Name, err)
	}
	addr := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := ns.Link.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("add address %s to %s in %s: %w", p, dev, ns.Name, err)
	}
	return nil
}

// addRoute adds a route through one or more gateways.
func (ns *NS) addRoute(dst netip.Prefix, gateways ...netip.Addr) error {
	r := &netlink.Route{Dst: ipNet(dst), Protocol: unix.RTPROT_STATIC}
	if len(gateways) == 1 {
		r.Gw = gateways[0].AsSlice()
	} else {
		for _, g := range gateways {
			r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{Gw: g.AsSlice()})
		}
	}
	if err := ns.Link.RouteAdd(r); err != nil {
		return fmt.Errorf("add route %s in %s: %w", dst, ns.Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
