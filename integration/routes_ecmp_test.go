package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestECMP gives r1n1 an uplink to each of two ToRs.
func TestECMP(t *testing.T) {
	t.Run("direct", func(t *testing.T) { checkECMP(t, lab.Pool{Tunnel: "none", Encap: "Never"}) })
	t.Run("vxlan", func(t *testing.T) { checkECMP(t, lab.Pool{Tunnel: "vxlan"}) })
}

// TestECMPThroughIPIP is a test of its own because it is all that the other
// test bed has to repeat.
func TestECMPThroughIPIP(t *testing.T) {
	labtest.NeedIPIP(t)
	checkECMP(t, lab.Pool{Tunnel: "ipip"})
}

// checkECMP looks at both families: the uplinks are shared, one ToR may die
// and come back.
func checkECMP(t *testing.T, pool lab.Pool) {
	t.Helper()
	pool.CIDR6 = labtest.Pool6
	ctx, l := labtest.Build(t, lab.Spec{Name: "ecmp-" + pool.Tunnel, DualStack: true, ToRsPerRack: 2, NodesPerRack: 1, Pool: pool})
	n := l.Node("r1n1")
	addUplinks(t, l, n)
	labtest.StartWithPods(ctx, t, l)
	if _, err := l.PingFromToRs(ctx); err != nil {
		t.Error(err)
	}
	for _, v6 := range []bool{false, true} {
		t.Run(labtest.Family(v6), func(t *testing.T) {
			if pool.Tunnel != "ipip" || !v6 { // see docs/routes.md: ip6tnl chooses once for each far node
				checkUplinks(ctx, t, l, n, v6)
			}
			checkDyingToR(ctx, t, l, n, v6)
		})
	}
}

// addUplinks wires a node to both ToRs of its rack and gives it default routes
// over both.
func addUplinks(t *testing.T, l *lab.Lab, n *lab.Node) {
	t.Helper()
	var ways [2][]lab.Gateway
	for i, tor := range l.Racks[0].ToRs {
		dev := fmt.Sprintf("up%d", i+1)
		must(t, lab.Wire(tor.NS, n.Name, n.NS, dev))
		must(t, n.NS.AskAgainSoon(dev))
		must(t, tor.NS.AskAgainSoon(n.Name))
		for f, text := range []string{"10.58.%d.1/30", "fd58:%d::1/126"} {
			net := netip.MustParsePrefix(fmt.Sprintf(text, i+1))
			must(t, tor.NS.AddAddr(n.Name, net))
			must(t, n.NS.AddAddr(dev, netip.PrefixFrom(net.Addr().Next(), net.Bits())))
			ways[f] = append(ways[f], lab.Gateway{Via: net.Addr(), Dev: dev})
		}
	}
	must(t, n.NS.RemoveRoute(defaults[1])) // a replacement would leave one of its gateways
	for f, dst := range defaults {
		must(t, lab.Eventually(t.Context(), labtest.Patience, "default route over the uplinks", func() error {
			return n.NS.SetRoute(dst, ways[f]...)
		}))
	}
}

// checkUplinks counts what many flows put on each uplink: each flow chooses
// for itself.
func checkUplinks(ctx context.Context, t *testing.T, l *lab.Lab, n *lab.Node, v6 bool) {
	a, b := labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r2n1")
	dst := labtest.AddrOf(b, v6)
	labtest.Reaches(ctx, t, a, b, v6)
	taps := map[string]*lab.Capture{}
	for _, dev := range []string{"up1", "up2"} {
		tap, err := lab.StartCapture(n.NS, dev)
		must(t, err)
		taps[dev] = tap
	}
	must(t, lab.Eventually(ctx, labtest.Patience, "both uplinks carry flows", func() error {
		for range 32 { // each socket is a flow
			if err := sendUDP(a.NS, dst); err != nil {
				return err
			}
		}
		for dev, tap := range taps {
			if tap.Count(func(p lab.Packet) bool { return p.InnerDst == dst || p.Dst == dst }) == 0 {
				return fmt.Errorf("nothing on %s", dev)
			}
		}
		return nil
	}))
	for _, tap := range taps {
		must(t, tap.Stop())
	}
}

func sendUDP(ns *lab.NS, dst netip.Addr) error {
	return ns.Do(func() error {
		conn, err := net.Dial("udp", netip.AddrPortFrom(dst, 9).String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("flow"))
		return err
	})
}

// checkDyingToR takes the first ToR down with all its cables: packets take the
// other; then it comes back, first towards the core and then towards the node,
// and nothing is lost. In IPv6 the other ToRs (BIRD) delete a multipath route
// before they add its successor; that is theirs to lose, so there the flows
// begin when they are done, and see the node's uplink return.
func checkDyingToR(ctx context.Context, t *testing.T, l *lab.Lab, n *lab.Node, v6 bool) {
	tor := l.Racks[0].ToRs[0]
	must(t, tor.Stop())
	for _, dev := range []string{n.Name, "rack", "core"} {
		must(t, tor.NS.SetLink(dev, false))
	}
	labtest.EveryFlowPasses(ctx, t, l, v6)
	var flows []*lab.PingFlow
	if !v6 {
		flows = eightFlows(ctx, t, l, v6)
	}
	torReturns(ctx, t, l, tor, v6)
	if v6 {
		bothWaysBack(ctx, t, l, n)
		flows = eightFlows(ctx, t, l, v6)
	}
	must(t, tor.NS.SetLink(n.Name, true))
	must(t, l.WaitConverged(ctx))
	must(t, flows[0].WaitFor(ctx, 100)) // they run side by side
	for _, flow := range flows {
		labtest.Lossless(ctx, t, flow)
	}
}

// eightFlows starts flows between two pods of different racks.
func eightFlows(ctx context.Context, t *testing.T, l *lab.Lab, v6 bool) []*lab.PingFlow {
	t.Helper()
	a, b := labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r2n1")
	flows := make([]*lab.PingFlow, 8)
	for i := range flows {
		var err error
		flows[i], err = lab.StartPingFlow(a.NS, b.NS, labtest.AddrOf(b, v6), 100)
		must(t, err)
		must(t, flows[i].WaitFor(ctx, 10))
	}
	return flows
}

// torReturns starts a ToR again, with its links but those to nodes.
func torReturns(ctx context.Context, t *testing.T, l *lab.Lab, tor *lab.ToR, v6 bool) {
	t.Helper()
	far := l.Node("r2n1")
	rack2 := netip.PrefixFrom(far.Addr, 24)
	if v6 {
		rack2 = netip.PrefixFrom(far.Addr6, 64)
	}
	must(t, tor.NS.SetLink("core", true))
	must(t, tor.Start(ctx))
	must(t, tor.WaitRoute(ctx, rack2.Masked()))
	must(t, tor.NS.SetLink("rack", true))
	must(t, tor.WaitRoute(ctx, labtest.BlockOfFamily(ctx, t, far, v6)))
}

// bothWaysBack waits until the far rack's ToRs send packets for a node, and for
// its pods, to both of its own in IPv6.
func bothWaysBack(ctx context.Context, t *testing.T, l *lab.Lab, n *lab.Node) {
	t.Helper()
	for _, tor := range l.Racks[1].ToRs {
		for _, p := range []netip.Prefix{netip.PrefixFrom(n.Addr6, 64).Masked(), labtest.BlockOfFamily(ctx, t, n, true)} {
			must(t, lab.Eventually(ctx, labtest.Patience, tor.Name+" has two ways to "+p.String(), func() error {
				routes, err := tor.NS.Routes(unix.RTPROT_BIRD)
				for _, r := range routes {
					if r.Prefix == p && len(r.Hops) == 2 {
						return nil
					}
				}
				return errors.Join(err, fmt.Errorf("it has %v", routes))
			}))
		}
	}
}
