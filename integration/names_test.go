package integration

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestUplinkName runs a node whose uplink has a name that looks like a pod's
// device: it is the operator's, and packets come in there as through any other,
// also after the agent has stopped and left its nftables rules.
func TestUplinkName(t *testing.T) {
	for _, uplink := range []string{"onlan0", "onlab-uplink-0"} { // the second is as long as a pod's
		t.Run(uplink, func(t *testing.T) {
			ctx, l := labtest.Build(t, labtest.Alone("uplink"))
			n, tor := l.Node("r1n1"), l.Racks[0].ToRs[0]
			must(t, n.NS.Rename("eth0", uplink))
			must(t, n.NS.SetRoute(netip.PrefixFrom(netip.IPv4Unspecified(), 0), lab.Gateway{Via: tor.Addr, Dev: uplink}))
			must(t, l.StartToRs(ctx))
			labtest.StartNode(ctx, t, n)
			p, err := n.AddPod(ctx, "web")
			must(t, err)
			reached := func() {
				t.Helper()
				for what, to := range map[string]netip.Addr{"the node": n.Addr, "its pod": p.Addr()} {
					must(t, lab.Eventually(ctx, labtest.Back, what+" is reached", func() error {
						_, err := tor.NS.Ping(ctx, to, 1, time.Second)
						return err
					}))
				}
			}
			reached()
			status, err := n.Status(ctx)
			must(t, err)
			if len(status.GetProblems()) > 0 {
				t.Errorf("problems %q of a node that is well", status.GetProblems())
			}
			must(t, n.Stop())
			reached()
		})
	}
}

// TestForeignTunnel puts somebody else's device in the place of a tunnel: it is
// left as it is, no route leads through it, and the node says what to do. When it
// goes, the tunnel takes its place.
func TestForeignTunnel(t *testing.T) {
	ctx, l := labtest.Build(t, lab.Spec{Name: "foreign", Racks: 1, NodesPerRack: 2, Pool: lab.Pool{Tunnel: "vxlan", Encap: "Always"}})
	n, other := l.Node("r1n1"), l.Node("r1n2")
	const device = "onlink-vxlan"
	address := netip.MustParsePrefix("172.20.0.1/24")
	must(t, n.NS.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = device, 1400
		return netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs, VxlanId: 77, Port: 9999, SrcAddr: n.Addr.AsSlice()})
	}))
	must(t, n.NS.SetLink(device, true))
	must(t, n.NS.AddAddr(device, address))
	must(t, l.StartToRs(ctx))
	must(t, l.StartNodes(ctx))
	_, err := other.AddPod(ctx, "far")
	must(t, err)
	block := labtest.BlockOf(ctx, t, other)
	must(t, lab.Eventually(ctx, labtest.Back, "the node says whose device it is", func() error {
		return saysForeign(ctx, n, block, device)
	}))
	must(t, lab.Eventually(ctx, labtest.Back, "the other node has its route", func() error { // only the foreign device is in the way
		return labtest.HasRoute(other, labtest.BlockOf(ctx, t, n), labtest.RouteProtocol)
	}))
	if err := labtest.HasRoute(n, block, labtest.RouteProtocol); err == nil {
		t.Errorf("the route to %s leads through somebody else's %s", block, device)
	}
	must(t, n.NS.HasAddr(device, address))
	if mtu, err := n.NS.MTU(device); err != nil || mtu != 1400 {
		t.Errorf("the foreign device has MTU %d (%v), want its own 1400", mtu, err)
	}
	must(t, n.NS.DeleteLink(device))
	must(t, lab.Eventually(ctx, labtest.Back, "the route through the tunnel comes", func() error { return labtest.HasRoute(n, block, labtest.RouteProtocol) }))
	if mtu, err := n.NS.MTU(device); err != nil || mtu == 1400 {
		t.Errorf("MTU %d (%v) of the tunnel", mtu, err)
	}
}

// saysForeign wants a node to name a foreign device, and the route that cannot
// use it.
func saysForeign(ctx context.Context, n *lab.Node, block netip.Prefix, device string) error {
	status, err := n.Status(ctx)
	if err != nil {
		return err
	}
	text := strings.Join(status.GetProblems(), "\n")
	for _, want := range []string{"ensure tunnel " + device + ": device is not onlink's", "rename or delete it", "route " + block.String() + ": "} {
		if !strings.Contains(text, want) {
			return fmt.Errorf("problems do not say %q: %s", want, text)
		}
	}
	return nil
}
