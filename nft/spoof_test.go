package nft

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

// needAntiSpoof skips the test where the kernel cannot look up routes in rules.
func needAntiSpoof(t *testing.T, h *host) {
	t.Helper()
	needNFTables(t, h)
	switch err := h.try(SupportsAntiSpoof); {
	case errors.Is(err, ErrUnsupported):
		t.Skip("needs kernel feature: nft_fib")
	case err != nil:
		t.Fatal(err)
	}
}

// TestAntiSpoof lets a pod send from its own and from another's addresses, with
// rp_filter set loose for all interfaces, and lets a tunnel device be.
func TestAntiSpoof(t *testing.T) {
	pod, node := newHost(t), newHost(t)
	needAntiSpoof(t, node)
	node.forwards()
	const device = "onl0123456789a"
	wire(node, pod, device, []string{"10.0.0.1/32", "fd00::1/128"}, []string{"10.244.0.2/32", "fd00:244::2/128", "10.244.0.3/32", "fd00:244::3/128"})
	node.isPods(device)
	node.do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		for _, dst := range []string{"10.244.0.2/32", "fd00:244::2/128"} {
			ipNet, err := netlink.ParseIPNet(dst)
			if err != nil {
				return err
			}
			if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet, LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK}); err != nil {
				return err
			}
		}
		return nil
	})
	pod.do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		for _, dst := range []string{"10.0.0.1/32", "fd00::1/128"} {
			ipNet, err := netlink.ParseIPNet(dst)
			if err != nil {
				return err
			}
			if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet, LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK}); err != nil {
				return err
			}
		}
		return nil
	})
	table := New(nil)
	node.do(func() error { return table.Apply(State{AntiSpoof: true}) })
	r := &rack{pod: pod, node: node, table: table}
	for _, own := range [][2]string{{"10.244.0.2", "10.0.0.1"}, {"fd00:244::2", "fd00::1"}} {
		if from := arrives(t, pod, own[0], node, "udp", own[1], 5000); from != own[0] {
			t.Errorf("a packet from %s came from %s", own[0], from)
		}
	}
	for _, forged := range [][2]string{{"10.244.0.3", "10.0.0.1"}, {"fd00:244::3", "fd00::1"}} {
		r.dropped(t, "prerouting", pod, forged[0], node, "udp", forged[1], 5000)
	}
	node.do(func() error { return table.Apply(State{}) })
}
