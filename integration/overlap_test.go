package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestPoolOverHost: a pool, or what the file originates, takes something that
// the node reaches without onlink. The start is refused, naming both, and the
// kernel is as before.
func TestPoolOverHost(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("over"))
	n := l.Node("r1n1")
	must(t, addBridge(n.NS, "docker0", "10.17.0.1/16"))
	must(t, n.NS.SetRoute(netip.MustParsePrefix("10.19.0.0/24"), lab.Gateway{Dev: "docker0"}))
	must(t, n.NS.SetRoute(netip.MustParsePrefix("10.21.0.1/32"), lab.Gateway{Dev: "eth0"}))
	must(t, n.NS.SetRoute(netip.MustParsePrefix("198.18.0.0/15"), lab.Gateway{Via: netip.MustParseAddr("10.21.0.1"), Dev: "eth0"}))
	pool := func(cidr string) func(*conf.Config) {
		return func(c *conf.Config) { c.Pools = []conf.Pool{{Name: "p", CIDR: cidr, Tunnel: "none"}} }
	}
	originate := func(p string) func(*conf.Config) {
		return func(c *conf.Config) { c.BGP.Originate = []string{p} }
	}
	for _, c := range []struct {
		name string
		edit func(*conf.Config)
		want []string
	}{
		{"the nodes' network and the peer in it", pool("10.57.0.0/16"), []string{"pools[0].cidr", "10.57.1.1/32", "peer tor1"}},
		{"a part of it", pool("10.57.1.192/26"), []string{"pools[0].cidr", "10.57.1.0/24", "the network of eth0"}},
		{"a container bridge", pool("10.17.128.0/17"), []string{"pools[0].cidr", "10.17.0.0/16, the network of docker0"}},
		{"a network that a route puts on a wire", pool("10.19.0.0/16"), []string{"pools[0].cidr", "10.19.0.0/24, the network of docker0"}},
		{"a gateway", pool("10.21.0.0/16"), []string{"pools[0].cidr", "10.21.0.1/32, the gateway of routes over eth0"}},
		{"a peer elsewhere", func(c *conf.Config) {
			pool("10.30.0.0/16")(c)
			c.BGP.Peers = []*conf.Peer{{Name: "far", Address: "10.30.0.1"}}
		}, []string{"pools[0].cidr", "peer far", "bgp.peers[0].address"}},
		{"the nodes' network originated", originate("10.57.1.0/24"), []string{"bgp.originate[0]", "10.57.1.0/24"}},
		{"a gateway originated", originate("10.21.0.1/32"), []string{"bgp.originate[0]", "10.21.0.1/32, the gateway"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := n.Config()
			config.Node.Address = "auto"
			c.edit(config)
			path, err := n.WriteConfig("over.yaml", config)
			must(t, err)
			checkRefused(ctx, t, n, path, 0, append(c.want, "over.yaml:"))
			routes, err := n.NS.Routes(labtest.RouteProtocol)
			if err != nil || len(routes) > 0 {
				t.Errorf("routes after a refused start: %v, %v", routes, err)
			}
		})
	}
}

// TestPoolOverHostLater: a file that is read again is refused in the same way;
// what the node has for itself may be originated; and a network that comes
// into a block while the agent runs is named, and no drop route covers it.
func TestPoolOverHostLater(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("later"))
	must(t, l.StartToRs(ctx))
	n := l.Node("r1n1")
	must(t, addBridge(n.NS, "docker0", "10.17.0.1/16"))
	must(t, n.NS.AddAddr("lo", netip.MustParsePrefix("10.57.1.200/32")))
	labtest.StartNode(ctx, t, n)
	must(t, labtest.WaitBlocks(ctx, l))
	c := n.Config()
	c.Pools = append(c.Pools, conf.Pool{Name: "more", CIDR: "10.17.0.0/20", Tunnel: "none"})
	labtest.RefuseReload(ctx, t, n, c)
	must(t, labtest.Problem(ctx, n, "pools[1].cidr: 10.17.0.0/20 overlaps 10.17.0.0/16, the network of docker0"))
	c = n.Config()
	c.BGP.Originate = []string{"10.17.0.0/16", "10.57.1.200/32"}
	labtest.Reload(ctx, t, n, c)

	block := labtest.BlockOf(ctx, t, n)
	must(t, labtest.HasRoute(n, block, labtest.RouteProtocol))
	host := netip.PrefixFrom(block.Addr().Next(), 24)
	must(t, n.NS.AddAddr("docker0", host))
	gone := func() error {
		if labtest.HasRoute(n, block, labtest.RouteProtocol) == nil {
			return fmt.Errorf("a drop route covers %s", host.Masked())
		}
		return nil
	}
	must(t, lab.Eventually(ctx, labtest.Back, "the drop route to go", gone))
	must(t, labtest.Problem(ctx, n, "overlaps "+host.Masked().String()+", the network of docker0"))
	must(t, n.NS.DeleteAddr("docker0", host))
	must(t, lab.Eventually(ctx, labtest.Back, "the drop route to come back", func() error {
		if err := labtest.HasRoute(n, block, labtest.RouteProtocol); err != nil {
			return err
		}
		if labtest.Problem(ctx, n, "overlaps") == nil {
			return errors.New("the problem is still told")
		}
		return nil
	}))
	// The same with a gateway on an uplink.
	must(t, n.NS.SetRoute(netip.PrefixFrom(block.Addr().Next(), 32), lab.Gateway{Dev: "eth0"}))
	must(t, n.NS.SetRoute(netip.MustParsePrefix("198.18.0.0/15"), lab.Gateway{Via: block.Addr().Next(), Dev: "eth0"}))
	must(t, lab.Eventually(ctx, labtest.Back, "the drop route to go", gone))
	must(t, lab.Eventually(ctx, 5*time.Second, "the problem", func() error { return labtest.Problem(ctx, n, "over eth0") }))
}

// addBridge makes a bridge with an address, up.
func addBridge(ns *lab.NS, name, address string) error {
	if err := ns.Link.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
		return err
	}
	return errors.Join(ns.SetLink(name, true), ns.AddAddr(name, netip.MustParsePrefix(address)))
}
