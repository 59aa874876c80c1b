package pod

import (
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// SetMTU changes the MTU of a pod's interface and of its host device, in bytes,
// from any of some values to another. An interface with yet another MTU stays:
// another program set it. fs.ErrNotExist: the pod's namespace is gone.
func SetMTU(netnsPath, ifName, hostDevice string, from []int, to int) error {
	ns, err := netns.GetFromPath(netnsPath)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", netnsPath, err)
	}
	defer func() { _ = ns.Close() }() // only our reference
	pod, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in %s: %w", netnsPath, err)
	}
	defer pod.Close()
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer host.Close()
	// The host end comes last: it shows that both have the new value.
	if err := changeMTU(pod, ifName, from, to); err != nil {
		return err
	}
	return changeMTU(host, hostDevice, from, to)
}

func changeMTU(h *netlink.Handle, dev string, from []int, to int) error {
	link, err := h.LinkByName(dev)
	if err != nil {
		return fmt.Errorf("find %s: %w", dev, err)
	}
	if link.Attrs().MTU == to || !slices.Contains(from, link.Attrs().MTU) {
		return nil
	}
	if err := h.LinkSetMTU(link, to); err != nil {
		return fmt.Errorf("set mtu of %s: %w", dev, err)
	}
	return nil
}
