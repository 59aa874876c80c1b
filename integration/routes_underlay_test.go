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

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestUnderlay changes what the kernel knows of the nodes while packets flow.
// onlink's own switches between direct and tunnel must lose none of them.
func TestUnderlay(t *testing.T) {
	t.Parallel()
	ctx, l := labtest.Start(t, lab.Spec{Name: "under", DualStack: true, ToRsPerRack: 2, NodesPerRack: 2, Pool: lab.Pool{CIDR6: labtest.Pool6, Tunnel: "vxlan"}})
	t.Run("off-link and on-link again, IPv4", func(t *testing.T) { checkSwitch(ctx, t, l, false) })
	t.Run("off-link and on-link again, IPv6", func(t *testing.T) { checkSwitch(ctx, t, l, true) })
	t.Run("node subnet widened, IPv4", func(t *testing.T) { checkWidened(ctx, t, l) })
	t.Run("node subnet widened, IPv6", func(t *testing.T) { checkWidened6(ctx, t, l) })
	t.Run("ToR change", func(t *testing.T) { checkToRChange(ctx, t, l) })
	t.Run("underlay mtu followed", func(t *testing.T) { checkMTUFollowed(ctx, t, l) })
	t.Run("narrow link between racks", func(t *testing.T) { checkNarrow(ctx, t, l) })
	t.Run("cable pulled", func(t *testing.T) { checkCable(ctx, t, l) })
	t.Run("link down and up", func(t *testing.T) { checkLink(ctx, t, l) })
}

// routeThrough waits until n's kernel sends the first block of a far node, of
// one family, through a device.
func routeThrough(ctx context.Context, t *testing.T, n, far *lab.Node, v6 bool, dev string) {
	t.Helper()
	block := labtest.BlockOfFamily(ctx, t, far, v6)
	must(t, lab.Eventually(ctx, labtest.Patience, fmt.Sprintf("%s reaches %s over %s", n.Name, block, dev), func() error {
		routes, err := n.NS.Routes(labtest.RouteProtocol)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Prefix == block {
				if len(r.Hops) == 1 && r.Hops[0].Dev == dev {
					return nil
				}
				return fmt.Errorf("kernel has %s", r)
			}
		}
		return errors.New("kernel has no route")
	}))
}

// startFlow starts a thousand packets a second between two pods.
func startFlow(ctx context.Context, t *testing.T, a, b *lab.Pod, v6 bool) *lab.PingFlow {
	t.Helper()
	labtest.Reaches(ctx, t, a, b, v6) // neighbours are known now
	flow, err := lab.StartPingFlow(a.NS, b.NS, labtest.AddrOf(b, v6), 1000)
	must(t, err)
	must(t, flow.WaitFor(ctx, 200))
	return flow
}

// checkSwitch gives r1n1 a host route to its rack neighbour through the ToR, and
// takes it away again: three times off-link and on-link.
func checkSwitch(ctx context.Context, t *testing.T, l *lab.Lab, v6 bool) {
	n, far, tor := l.Node("r1n1"), l.Node("r1n2"), l.ToRs()[0]
	dst, via, dev := netip.PrefixFrom(far.Addr, 32), tor.Addr, "onlink-vxlan"
	if v6 {
		dst, via, dev = netip.PrefixFrom(far.Addr6, 128), tor.Addr6, "onlink-vxlan6"
	}
	flow := startFlow(ctx, t, labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r1n2"), v6)
	for range 3 {
		must(t, n.NS.SetRoute(dst, lab.Gateway{Via: via}))
		routeThrough(ctx, t, n, far, v6, dev)
		must(t, flow.WaitFor(ctx, 300))
		must(t, n.NS.RemoveRoute(dst))
		routeThrough(ctx, t, n, far, v6, "eth0")
		must(t, flow.WaitFor(ctx, 300))
	}
	labtest.Lossless(ctx, t, flow)
	labtest.CheckRoutes(ctx, t, l)
}

// checkWidened makes r1n1's network so narrow that its neighbour is outside,
// and wide again, while packets flow.
func checkWidened(ctx context.Context, t *testing.T, l *lab.Lab) {
	n, far := l.Node("r1n1"), l.Node("r1n2")
	narrow, wide := netip.PrefixFrom(n.Addr, 30), netip.PrefixFrom(n.Addr, 24) // the /30 has .8 to .11
	flow := startFlow(ctx, t, labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r1n2"), false)
	must(t, n.NS.AddAddr("eth0", narrow))
	must(t, n.NS.DeleteAddr("eth0", wide))
	routeThrough(ctx, t, n, far, false, "onlink-vxlan")
	must(t, flow.WaitFor(ctx, 300))
	must(t, n.NS.AddAddr("eth0", wide))
	routeThrough(ctx, t, n, far, false, "eth0")
	must(t, n.NS.DeleteAddr("eth0", narrow))
	must(t, flow.WaitFor(ctx, 300))
	labtest.Lossless(ctx, t, flow)
	labtest.CheckRoutes(ctx, t, l)
}

// checkWidened6 is the same in IPv6, where an address and what is on its link
// are two things (RFC 5942): the on-link prefix changes and the address stays.
// Then the address comes back with another length, which in IPv6 is another
// address: for a moment there is none, so nothing is said of packets.
func checkWidened6(ctx context.Context, t *testing.T, l *lab.Lab) {
	n, far := l.Node("r1n1"), l.Node("r1n2")
	narrow, wide := netip.PrefixFrom(n.Addr6, 127), netip.PrefixFrom(n.Addr6, 64) // the /127 has ::10 and ::11
	flow := startFlow(ctx, t, labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r1n2"), true)
	must(t, n.NS.SetRoute(narrow.Masked(), lab.Gateway{Dev: "eth0"}))
	must(t, n.NS.DeleteRoute(wide.Masked(), unix.RTPROT_KERNEL))
	routeThrough(ctx, t, n, far, true, "onlink-vxlan6")
	must(t, flow.WaitFor(ctx, 300))
	must(t, n.NS.SetRoute(wide.Masked(), lab.Gateway{Dev: "eth0"}))
	routeThrough(ctx, t, n, far, true, "eth0")
	must(t, n.NS.RemoveRoute(narrow.Masked()))
	must(t, flow.WaitFor(ctx, 300))
	labtest.Lossless(ctx, t, flow)
	labtest.CheckRoutes(ctx, t, l)

	for _, step := range []struct {
		from, to netip.Prefix
		dev      string
	}{{wide, narrow, "onlink-vxlan6"}, {narrow, wide, "eth0"}} {
		must(t, n.NS.DeleteAddr("eth0", step.from))
		// Most kernels remove the network with the address, whoever added it.
		if err := n.NS.RemoveRoute(step.from.Masked()); !errors.Is(err, unix.ESRCH) {
			must(t, err)
		}
		must(t, n.NS.AddAddr("eth0", step.to))
		routeThrough(ctx, t, n, far, true, step.dev)
		labtest.Reaches(ctx, t, labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r1n2"), true)
	}
	labtest.CheckRoutes(ctx, t, l)
}

var defaults = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// checkToRChange moves r1n1's default routes from one ToR to the other and
// back to both.
func checkToRChange(ctx context.Context, t *testing.T, l *lab.Lab) {
	n, tors := l.Node("r1n1"), l.Racks[0].ToRs
	for _, v6 := range []bool{false, true} {
		flow := startFlow(ctx, t, labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r2n1"), v6)
		via := func(t *lab.ToR) lab.Gateway {
			if v6 {
				return lab.Gateway{Via: t.Addr6}
			}
			return lab.Gateway{Via: t.Addr}
		}
		dst := defaults[0]
		if v6 {
			dst = defaults[1]
		}
		for _, ways := range [][]lab.Gateway{{via(tors[1])}, {via(tors[0])}, {via(tors[0]), via(tors[1])}} {
			if v6 { // IPv6 multipath routes are not replaced as one
				if len(ways) > 1 {
					continue
				}
				must(t, lab.Eventually(ctx, labtest.Patience, "the other ToR answers", func() error {
					_, err := n.NS.Ping(ctx, ways[0].Via, 1, 3*time.Second)
					return err
				}))
			}
			must(t, n.NS.SetRoute(dst, ways...))
			must(t, flow.WaitFor(ctx, 300))
		}
		labtest.Lossless(ctx, t, flow)
	}
	labtest.CheckRoutes(ctx, t, l)
}

// checkMTUFollowed makes r1n1's link smaller: its tunnels and its pods, new and
// old, follow.
func checkMTUFollowed(ctx context.Context, t *testing.T, l *lab.Lab) {
	n, old := l.Node("r1n1"), labtest.PodOf(l, "r1n1")
	follow := func(link int) {
		t.Helper()
		must(t, n.NS.SetMTU("eth0", link))
		for _, want := range []struct {
			ns  *lab.NS
			dev string
			mtu int
		}{{n.NS, "onlink-vxlan", link - 50}, {n.NS, "onlink-vxlan6", link - 70}, {old.NS, "eth0", link - 70}} {
			must(t, lab.Eventually(ctx, labtest.Patience, fmt.Sprintf("mtu of %s in %s", want.dev, want.ns.Name), func() error { return labtest.HasMTU(want.ns, want.dev, want.mtu) }))
		}
	}
	follow(1400)
	young, err := n.AddPod(ctx, "young")
	must(t, err)
	must(t, labtest.HasMTU(young.NS, "eth0", 1330))
	must(t, young.Delete(ctx))
	follow(1500)
}

// checkNarrow puts a link of 1400 bytes between the racks, which no node can
// see: TCP has to find out (RFC 1191, RFC 8201).
func checkNarrow(ctx context.Context, t *testing.T, l *lab.Lab) {
	narrow := func(mtu int) {
		for _, tor := range l.ToRs() {
			must(t, tor.NS.SetMTU("core", mtu))
		}
	}
	narrow(1400)
	a, b := labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r2n1")
	must(t, lab.Eventually(ctx, labtest.Patience, "a node's own 1448 bytes are too big", func() error {
		err := sendWhole(l.Node("r1n1").NS, l.Node("r2n1").Addr, 1420)
		if !errors.Is(err, unix.EMSGSIZE) {
			return fmt.Errorf("sent: %v", err) //nolint:errorlint // text only; nil is the failure
		}
		return nil
	}))
	for _, addr := range b.Addrs {
		short, cancel := context.WithTimeout(ctx, labtest.Patience)
		took, err := lab.Transfer(short, a.NS, b.NS, addr, 512<<10)
		cancel()
		if err != nil {
			t.Errorf("TCP to %s over the narrow link: %v", addr, err)
		}
		t.Logf("512 KiB to %s took %s", addr, took.Round(time.Millisecond))
	}
	narrow(1500)
}

// sendWhole sends one datagram that nobody may fragment. When the path is known
// to be too narrow the error is EMSGSIZE.
func sendWhole(ns *lab.NS, dst netip.Addr, size int) error {
	return ns.Do(func() error {
		conn, err := net.Dial("udp", netip.AddrPortFrom(dst, 9).String())
		if err != nil {
			return err
		}
		defer conn.Close()
		raw, err := conn.(*net.UDPConn).SyscallConn()
		if err != nil {
			return err
		}
		var optErr error
		err = raw.Control(func(fd uintptr) {
			optErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		})
		if err = errors.Join(err, optErr); err != nil {
			return err
		}
		_, err = conn.Write(make([]byte, size))
		return err
	})
}

// checkCable pulls r1n1's cable at the switch: carrier is lost, addresses and
// routes stay.
func checkCable(ctx context.Context, t *testing.T, l *lab.Lab) {
	n, far, port := l.Node("r1n1"), l.Node("r2n1"), l.Racks[0].Switch
	block := labtest.BlockOf(ctx, t, far)
	must(t, port.SetLink(n.Name, false))
	must(t, lab.Eventually(ctx, labtest.Patience, "routes over the dead link go", func() error {
		if labtest.HasRoute(n, block, labtest.RouteProtocol) == nil {
			return fmt.Errorf("%s is still there", block)
		}
		return nil
	}))
	must(t, port.SetLink(n.Name, true))
	restored(ctx, t, l)
}

// checkLink sets r1n1's device down, which takes the routes of everybody, and up.
func checkLink(ctx context.Context, t *testing.T, l *lab.Lab) {
	n, tor := l.Node("r1n1"), l.Racks[0].ToRs[0]
	must(t, n.NS.SetLink("eth0", false))
	must(t, n.NS.SetLink("eth0", true))
	must(t, n.NS.SetRoute(defaults[0], lab.Gateway{Via: tor.Addr}))
	must(t, n.NS.AddAddr("eth0", netip.PrefixFrom(n.Addr6, 64))) // the kernel forgets IPv6 addresses
	// The connected network is there once the kernel's own work queue says that
	// the link has a carrier.
	must(t, lab.Eventually(ctx, labtest.Patience, "default route over IPv6", func() error {
		return n.NS.SetRoute(defaults[1], lab.Gateway{Via: tor.Addr6})
	}))
	restored(ctx, t, l)
}

// restored waits until everything is as before.
func restored(ctx context.Context, t *testing.T, l *lab.Lab) {
	t.Helper()
	must(t, l.WaitConverged(ctx))
	for _, far := range []string{"r1n2", "r2n1"} {
		labtest.Reaches(ctx, t, labtest.PodOf(l, "r1n1"), labtest.PodOf(l, far), false)
		labtest.Reaches(ctx, t, labtest.PodOf(l, "r1n1"), labtest.PodOf(l, far), true)
	}
	labtest.CheckRoutes(ctx, t, l)
}

// TestBond moves a node's address to a bond, under the agent.
func TestBond(t *testing.T) {
	ctx, l := labtest.Start(t, lab.Spec{Name: "bond", NodesPerRack: 1, Reflectors: 1, Pool: lab.Pool{Tunnel: "vxlan"}})
	n, tor := l.Node("r1n1"), l.ToRs()[0]
	if err := n.NS.AddBond("bond0"); errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("needs kernel feature: bond")
	} else {
		must(t, err)
	}
	must(t, n.NS.SetLink("eth0", false))
	must(t, n.NS.DeleteAddr("eth0", netip.PrefixFrom(n.Addr, 24)))
	must(t, n.NS.Enslave("eth0", "bond0"))
	must(t, n.NS.AddAddr("bond0", netip.PrefixFrom(n.Addr, 24)))
	must(t, lab.Eventually(ctx, labtest.Patience, "default route over the bond", func() error {
		return n.NS.SetRoute(defaults[0], lab.Gateway{Via: tor.Addr})
	}))
	routeThrough(ctx, t, n, l.Reflectors()[0], false, "bond0")
	routeThrough(ctx, t, n, l.Node("r2n1"), false, "onlink-vxlan")
	must(t, l.WaitConverged(ctx))
	labtest.Reaches(ctx, t, labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r2n1"), false)
	labtest.CheckRoutes(ctx, t, l)
}
