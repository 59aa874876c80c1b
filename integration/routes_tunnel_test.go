package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/integration/uml"
	"onlink/nft"
	"onlink/tunnel"
)

// TestVXLAN is the main job for clouds that drop protocol 4, in both families:
// inside a rack plainly, across racks in UDP.
func TestVXLAN(t *testing.T) {
	ctx, l := labtest.Start(t, lab.Spec{Name: "vxlan", DualStack: true, NodesPerRack: 2, Pool: lab.Pool{CIDR6: labtest.Pool6, Tunnel: "vxlan"}})
	t.Run("everything reaches every pod", func(t *testing.T) { labtest.CheckReach(ctx, t, l, 56, true) })
	t.Run("kernels hold the decided routes", func(t *testing.T) { labtest.CheckRoutes(ctx, t, l) })
	t.Run("metrics", func(t *testing.T) { checkMetrics(ctx, t, l) })
	t.Run("only nodes tunnel to us", func(t *testing.T) { checkGuard(ctx, t, l) })
	t.Run("damaged devices come back", func(t *testing.T) {
		checkDamage(ctx, t, l, "onlink-vxlan", false)
		checkDamage(ctx, t, l, "onlink-vxlan6", true)
	})
	t.Run("lost entries come back", func(t *testing.T) { checkEntries(ctx, t, l) })
	t.Run("a killed agent loses no packet", func(t *testing.T) {
		labtest.CheckKill(ctx, t, l, l.Node("r1n1"), labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r2n1"))
	})
	t.Run("a specific IPv6 route to the other rack", func(t *testing.T) { checkSpecific6(ctx, t, l) })
	t.Run("encapsulation turned off leaves nothing", func(t *testing.T) { checkOff(ctx, t, l, "onlink-vxlan", "onlink-vxlan6") })
}

// TestIPTunnels is the same with IPv4 in IPv4 and both in IPv6.
func TestIPTunnels(t *testing.T) {
	labtest.NeedIPIP(t)
	if uml.Probe("ip6tnl") != nil {
		t.Skip("needs kernel feature: ip6tnl")
	}
	ctx, l := labtest.Start(t, lab.Spec{Name: "dual", DualStack: true, NodesPerRack: 2, Pool: lab.Pool{CIDR6: labtest.Pool6}})
	t.Run("everything reaches every pod", func(t *testing.T) { labtest.CheckReach(ctx, t, l, 56, true) })
	t.Run("kernels hold the decided routes", func(t *testing.T) { labtest.CheckRoutes(ctx, t, l) })
	t.Run("damaged devices come back", func(t *testing.T) {
		checkDamage(ctx, t, l, "onlink-ipip", false)
		checkDamage(ctx, t, l, "onlink-ip6", true)
	})
	t.Run("narrow link between racks", func(t *testing.T) { checkNarrow(ctx, t, l) })
	t.Run("a specific IPv6 route to the other rack", func(t *testing.T) { checkSpecific6(ctx, t, l) })
	t.Run("encapsulation turned off leaves nothing", func(t *testing.T) { checkOff(ctx, t, l, "onlink-ipip", "onlink-ip6") })
}

// checkDamage does to a tunnel device of r1n1 whatever a hand can do; each time
// the device has to be whole and traffic through it has to flow again in time.
func checkDamage(ctx context.Context, t *testing.T, l *lab.Lab, dev string, v6 bool) {
	n, a, b := l.Node("r1n1"), labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r2n1")
	ns := n.NS
	mtu, err := ns.MTU(dev)
	must(t, err)
	own := netip.MustParsePrefix("192.0.0.8/32") // the dummy address: an interface needs one
	for _, c := range []struct {
		name   string
		damage func() error
		whole  func() error
	}{
		{"deleted", func() error { return ns.DeleteLink(dev) }, nil},
		{"down", func() error { return ns.SetLink(dev, false) }, nil},
		{"renamed", func() error { return ns.Rename(dev, "mine") }, func() error {
			return labtest.Absent(ns, "mine")
		}},
		{"mtu", func() error { return ns.SetMTU(dev, 1300) }, func() error {
			return labtest.HasMTU(ns, dev, mtu)
		}},
		{"address removed", func() error { return ns.DeleteAddr(dev, own) }, func() error { return ns.HasAddr(dev, own) }},
		{"address added", func() error { return ns.AddAddr(dev, netip.MustParsePrefix("10.99.0.1/32")) }, func() error {
			if ns.HasAddr(dev, netip.MustParsePrefix("10.99.0.1/32")) == nil {
				return fmt.Errorf("%s still has a strange address", dev)
			}
			return nil
		}},
	} {
		t.Run(dev+" "+c.name, func(t *testing.T) {
			must(t, c.damage())
			must(t, lab.Eventually(ctx, labtest.Back, dev+" is whole", func() error {
				if err := ns.IsUp(dev); err != nil {
					return err
				}
				if c.whole != nil {
					return c.whole()
				}
				return nil
			}))
			labtest.ReachesWithin(ctx, t, labtest.Back, a, b, v6)
		})
	}
	labtest.CheckRoutes(ctx, t, l)
}

// checkEntries takes a far node's entries away by hand.
func checkEntries(ctx context.Context, t *testing.T, l *lab.Lab) {
	n, far := l.Node("r1n1"), l.Node("r2n1")
	must(t, n.NS.DeleteNeighbour("onlink-vxlan", far.Addr))
	must(t, n.NS.DeleteForwarding("onlink-vxlan", tunnel.MAC(far.Addr), far.Addr))
	must(t, lab.Eventually(ctx, 2*labtest.Back, "entries come back", func() error {
		_, err := labtest.PodOf(l, "r1n1").NS.Ping(ctx, labtest.AddrOf(labtest.PodOf(l, "r2n1"), false), 1, 3*time.Second)
		return err
	}))
}

// checkGuard sends a VXLAN packet to r1n1 from a node and from the ToR, which
// is none: only the first may come out of the tunnel.
func checkGuard(ctx context.Context, t *testing.T, l *lab.Lab) {
	if err := nft.Supported(); err != nil {
		t.Skip("needs kernel feature: nftables")
	}
	n, other, tor := l.Node("r1n1"), l.Node("r1n2"), l.ToRs()[0]
	tap, err := lab.StartCapture(n.NS, "onlink-vxlan")
	must(t, err)
	src := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, last}) }
	dst := netip.MustParseAddr("203.0.113.99")
	seen := func(from netip.Addr) int {
		return tap.Count(func(p lab.Packet) bool { return p.Src == from })
	}
	must(t, sendVXLAN(tor.NS, n.Addr, src(1), dst))
	must(t, lab.Eventually(ctx, labtest.Patience, "the packet of a node comes out", func() error {
		if err := sendVXLAN(other.NS, n.Addr, src(2), dst); err != nil {
			return err
		}
		if seen(src(2)) == 0 {
			return errors.New("nothing seen")
		}
		return nil
	}))
	// The ToR's was sent before, over the same switch: it would be here now.
	must(t, sendVXLAN(tor.NS, n.Addr, src(1), dst))
	must(t, sendVXLAN(other.NS, n.Addr, src(3), dst))
	must(t, lab.Eventually(ctx, labtest.Patience, "the last packet of a node comes out", func() error {
		if seen(src(3)) == 0 {
			return errors.New("nothing seen")
		}
		return nil
	}))
	if got := seen(src(1)); got > 0 {
		t.Errorf("%d packets of a stranger came out of the tunnel", got)
	}
	must(t, tap.Stop())
}

// sendVXLAN sends an empty UDP packet from src to dst inside VXLAN to a node.
func sendVXLAN(ns *lab.NS, node, src, dst netip.Addr) error {
	b := []byte{8, 0, 0, 0, 0, 16, 0, 0} // VNI 4096
	b = append(b, tunnel.MAC(node)...)
	b = append(b, 2, 0, 0, 0, 0, 1, 8, 0) // from some Ethernet address, IPv4
	b = append(b, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	b = append(b, 0, 9, 0, 9, 0, 8, 0, 0)
	return ns.Do(func() error {
		conn, err := net.Dial("udp", netip.AddrPortFrom(node, lab.VXLANPort).String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write(b)
		return err
	})
}

// checkSpecific6 gives r1n1 a route to the other rack that is longer than the
// default route: IPv6 then refuses a plain on-link gateway in the tunnel.
func checkSpecific6(ctx context.Context, t *testing.T, l *lab.Lab) {
	n, far := l.Node("r1n1"), l.Node("r2n1")
	rack2 := netip.PrefixFrom(far.Addr6, 64).Masked()
	must(t, n.NS.SetRoute(rack2, lab.Gateway{Via: l.ToRs()[0].Addr6}))
	must(t, n.Stop())
	for _, dev := range []string{"onlink-vxlan6", "onlink-ip6"} {
		if found, err := n.NS.Devices(dev); err == nil && len(found) == 1 {
			must(t, n.NS.DeleteLink(dev)) // so that every route is written anew
		}
	}
	labtest.StartNode(ctx, t, n)
	must(t, l.WaitConverged(ctx))
	labtest.Reaches(ctx, t, labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r2n1"), true)
	labtest.CheckRoutes(ctx, t, l)
	must(t, n.NS.RemoveRoute(rack2))
}

// checkOff turns encapsulation off on one node.
func checkOff(ctx context.Context, t *testing.T, l *lab.Lab, devices ...string) {
	n := l.Node("r1n1")
	must(t, n.Stop())
	n.Edit = func(c *conf.Config) {
		for i := range c.Pools {
			c.Pools[i].Tunnel = "none"
		}
	}
	labtest.StartNode(ctx, t, n)
	for _, dev := range devices {
		must(t, lab.Eventually(ctx, labtest.Patience, dev+" is removed", func() error { return labtest.Absent(n.NS, dev) }))
	}
	// Inside the rack nothing needed it.
	labtest.Reaches(ctx, t, labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r1n2"), false)
	labtest.Reaches(ctx, t, labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r1n2"), true)
	labtest.CheckRoutes(ctx, t, l)
}
