package integration

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/interop"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestUnnumbered: a ToR at the end of a cable with link-local addresses alone.
// The session is between those, both families have them as next hops (RFC
// 8950), and packets go both ways.
func TestUnnumbered(t *testing.T) {
	t.Run("by address", func(t *testing.T) {
		checkUnnumbered(t, "addr", &conf.Peer{Address: "fe80::1%up1", LocalAddress: "fe80::2%up1", Interface: "up1", BFD: &conf.BFD{Hops: "single"}})
	})
	t.Run("by interface", func(t *testing.T) {
		checkUnnumbered(t, "if", &conf.Peer{Interface: "up1"})
	})
}

func checkUnnumbered(t *testing.T, name string, peer *conf.Peer) {
	t.Helper()
	ctx, l := labtest.Build(t, lab.Spec{
		Name: "un-" + name, Racks: 1, NodesPerRack: 1, Reflectors: -1, DualStack: true, Pool: lab.Pool{Tunnel: "none", CIDR6: labtest.Pool6},
	})
	n, tor := l.Node("r1n1"), l.ToRs()[0]
	const cable, leaf = "up1", "leaf"
	torAddr, nodeAddr := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::2")
	generate := func(mode string) {
		for _, ns := range []*lab.NS{tor.NS, n.NS} {
			must(t, ns.Sysctl("net/ipv6/conf/default/addr_gen_mode", mode))
		}
	}
	generate("1") // no addresses of the kernel's choice
	must(t, lab.Wire(tor.NS, leaf, n.NS, cable))
	generate("0")
	must(t, tor.NS.AddAddr(leaf, netip.PrefixFrom(torAddr, 64)))
	must(t, n.NS.AddAddr(cable, netip.PrefixFrom(nodeAddr, 64)))
	world := []netip.Prefix{netip.MustParsePrefix("198.18.5.0/24"), netip.MustParsePrefix("2001:db8:5::/64")}
	for _, p := range world {
		must(t, tor.NS.AddAddr("lo", netip.PrefixFrom(p.Addr().Next(), p.Addr().BitLen())))
	}
	r := labtest.StartRouter(ctx, t, l, interop.BIRD, tor, interop.Setup{
		ASN: tor.ASN, RemoteASN: lab.NodeASN, RouterID: tor.Addr, Local: torAddr, Remote: nodeAddr.WithZone(leaf),
		IPv4: true, IPv6: true, ExtendedHop: true, HopIPv4: torAddr, HopIPv6: torAddr, Announce: world, BFD: peer.BFD != nil,
	})
	peer.Name, peer.ASN, peer.ConnectRetry, peer.Import.Accept = leaf, tor.ASN, "2s", conf.Rules(world...)
	labtest.Wire(l, map[string]conf.BGP{n.Name: {ASN: lab.NodeASN, Peers: []*conf.Peer{peer}}})
	must(t, l.StartNodes(ctx))
	must(t, labtest.WaitBlocks(ctx, l))
	pod, err := n.AddPod(ctx, "pod")
	must(t, err)

	for _, p := range world {
		labtest.WantHop(ctx, t, n, p, lab.KernelHop{Via: torAddr, Dev: cable})
	}
	if peer.BFD != nil {
		must(t, labtest.WaitBFD(ctx, n, 1))
	}
	for _, v6 := range []bool{false, true} {
		block := labtest.BlockOfFamily(ctx, t, n, v6)
		must(t, lab.Eventually(ctx, labtest.Patience, "the ToR to learn "+block.String(), func() error { return learnedOnLink(ctx, r, block, nodeAddr) }))
		must(t, tor.NS.SetRoute(block, lab.Gateway{Via: nodeAddr, Dev: leaf})) // what BIRD would do
	}
	for _, p := range world {
		must(t, lab.Eventually(ctx, labtest.Patience, "a pod reaches "+p.String(), func() error {
			_, err := pod.NS.Ping(ctx, p.Addr().Next(), 1, 2*time.Second)
			return err
		}))
	}
	// The routes go with the cable, and come back with it.
	must(t, n.NS.SetLink(cable, false))
	for _, p := range world {
		must(t, lab.Eventually(ctx, labtest.Patience, p.String()+" gone", func() error { return labtest.ThroughHops(n, p) }))
	}
	must(t, n.NS.SetLink(cable, true))
	must(t, lab.Eventually(ctx, labtest.Patience, "the address again", func() error {
		if n.NS.HasAddr(cable, netip.PrefixFrom(nodeAddr, 64)) == nil {
			return nil
		}
		return n.NS.AddAddr(cable, netip.PrefixFrom(nodeAddr, 64)) // the kernel took it with the link
	}))
	for _, p := range world {
		labtest.WantHop(ctx, t, n, p, lab.KernelHop{Via: torAddr, Dev: cable})
	}
}

// learnedOnLink wants a route of a router whose next hop is a neighbour's
// link-local address.
func learnedOnLink(ctx context.Context, r *interop.Router, p netip.Prefix, hop netip.Addr) error {
	list, err := r.Learned(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(list, func(route interop.Route) bool { return route.Prefix == p && route.NextHop == hop }) {
		return fmt.Errorf("%w: it has %v", labtest.ErrNotLearned, list)
	}
	return nil
}
