package uml

import (
	"errors"
	"fmt"
	"net"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// HasIPIP reports whether the kernel this process runs on can make ipip
// devices; see Probe. An error other than a missing feature reads as no.
func HasIPIP() bool { return Probe("ipip") == nil }

// Probe asks the running kernel for one feature by using it in a fresh network
// namespace: "ipip", "ip6tnl", "sit", "vxlan", "vrf", "dummy". It returns nil
// when the kernel has it, and needs root.
func Probe(feature string) error {
	link, err := probeLink(feature)
	if err != nil {
		return err
	}
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and the
		// namespace with the thread.
		runtime.LockOSThread()
		result <- addInFreshNamespace(link)
	}()
	if err := <-result; err != nil {
		return fmt.Errorf("probe kernel feature %s: %w", feature, err)
	}
	return nil
}

func addInFreshNamespace(link netlink.Link) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare network namespace: %w", err)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	return h.LinkAdd(link)
}

func probeLink(feature string) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "probe"
	v4, v6 := net.IPv4(192, 0, 2, 1), net.ParseIP("2001:db8::1")
	switch feature {
	case "ipip":
		return &netlink.Iptun{LinkAttrs: attrs, Local: v4}, nil
	case "ip6tnl":
		return &netlink.Ip6tnl{LinkAttrs: attrs, Local: v6}, nil
	case "sit":
		return &netlink.Sittun{LinkAttrs: attrs, Local: v4}, nil
	case "vxlan":
		return &netlink.Vxlan{LinkAttrs: attrs, VxlanId: 1, Port: 4789}, nil
	case "vrf":
		return &netlink.Vrf{LinkAttrs: attrs, Table: 10}, nil
	case "dummy":
		return &netlink.Dummy{LinkAttrs: attrs}, nil
	}
	return nil, errors.New("probe kernel feature " + feature + ": unknown feature; use ipip, ip6tnl, sit, vxlan, vrf or dummy")
}
