package lab

import (
	"fmt"

	"github.com/vishvananda/netlink"
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

// Wire joins device dev of one namespace with device farDev of another, both
// up: a cable that no [Spec] has.
func Wire(a *NS, dev string, b *NS, farDev string) error { return wire(a, dev, b, farDev) }

// addBridge makes the namespace a switch with one bridge, br0.
func (k *Kernel) addBridge() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	snoop := false
	if err := k.Link.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snoop}); err != nil {
		return fmt.Errorf("add bridge in %s: %w", k.Name, err)
	}
	return k.setUp("br0")
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
