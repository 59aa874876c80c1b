package integration

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// dual is a rack with two nodes of both families and VXLAN pools.
func dual(name string) lab.Spec {
	return lab.Spec{Name: name, Racks: 1, NodesPerRack: 2, Reflectors: -1, DualStack: true, Pool: lab.Pool{CIDR6: labtest.Pool6, Tunnel: "vxlan"}}
}

// TestAddressOfAService: an address that moves from machine to machine is on
// the uplink, newer than the node's own. No way of asking leads to it, but
// writing it out.
func TestAddressOfAService(t *testing.T) {
	ctx, l := labtest.Build(t, dual("vip"))
	must(t, l.StartToRs(ctx))
	n := l.Node("r1n1")
	service := netip.MustParseAddr("fd57:1::100")
	must(t, deprecated(n.NS, "eth0", netip.PrefixFrom(service, 128)))
	must(t, deprecated(n.NS, "eth0", netip.MustParsePrefix("10.57.1.100/32")))
	for _, c := range []struct {
		address string
		want4   netip.Addr
		want6   netip.Addr
	}{
		{"auto", n.Addr, n.Addr6},
		{"eth0", n.Addr, n.Addr6},
		{n.Addr.String(), n.Addr, n.Addr6},
		{"fd57:1::/64", n.Addr, n.Addr6},
		{"10.57.1.0/24", n.Addr, n.Addr6},
		{service.String(), n.Addr, service},
	} {
		t.Run(strings.ReplaceAll(c.address, "/", " "), func(t *testing.T) {
			n.Edit = nodeAddress(c.address)
			must(t, n.Start(ctx))
			must(t, lab.Eventually(ctx, labtest.Patience, "the tunnels to send from the node's addresses", func() error {
				for dev, want := range map[string]netip.Addr{"onlink-vxlan": c.want4, "onlink-vxlan6": c.want6} {
					got, err := tunnelSource(n.NS, dev)
					if err != nil {
						return fmt.Errorf("read the source of %s: %w", dev, err)
					}
					if got != want {
						return fmt.Errorf("%s sends from %s, want %s", dev, got, want)
					}
				}
				st, err := n.Status(ctx)
				if err == nil && st.GetAddress() != c.want4.String() {
					err = fmt.Errorf("status says %s", st.GetAddress())
				}
				return err
			}))
			must(t, n.Stop())
		})
	}
}

// TestAddressPastABridge: without a default route, and with a container bridge
// that was there first, the node's address is the one towards its peer.
func TestAddressPastABridge(t *testing.T) {
	ctx, l := labtest.Build(t, lab.Spec{Name: "bridge", Racks: 1, NodesPerRack: 1, Reflectors: -1, Pool: lab.Pool{Tunnel: "vxlan"}})
	must(t, l.StartToRs(ctx))
	n := l.Node("r1n1")
	must(t, n.NS.Link.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "docker0"}}))
	must(t, n.NS.SetLink("docker0", true))
	must(t, n.NS.AddAddr("docker0", netip.MustParsePrefix("10.17.0.1/16")))
	must(t, n.NS.RemoveRoute(netip.PrefixFrom(netip.IPv4Unspecified(), 0)))
	auto := nodeAddress("auto")
	n.Edit = func(c *conf.Config) {
		auto(c)
		c.IPAM = conf.IPAM{Registry: conf.Registry{Kind: "bolt"}}
	}
	must(t, n.Start(ctx))
	must(t, lab.Eventually(ctx, labtest.Patience, "the agent to answer", func() error {
		st, err := n.Status(ctx)
		if err == nil && (st.GetAddress() != n.Addr.String() || st.GetRouterId() != n.Addr.String()) {
			t.Fatalf("address %s, router ID %s; want %s", st.GetAddress(), st.GetRouterId(), n.Addr)
		}
		return err
	}))
	must(t, n.Stop())
	// With nobody to reach, and nothing but inner networks, it refuses.
	must(t, n.NS.DeleteAddr("eth0", netip.PrefixFrom(n.Addr, 24)))
	c := n.Edited()
	c.BGP.Peers = nil
	path, err := n.WriteConfig("nobody.yaml", c)
	must(t, err)
	out, err := n.Exec(ctx, lab.Command{Program: "onlinkd", Args: []string{"--config", path}})
	must(t, err)
	for _, want := range []string{"node.address", "10.17.0.1 on docker0 (bridge)", "set the address"} {
		if out.Code != 1 || !strings.Contains(out.Stderr, want) {
			t.Fatalf("code %d, want 1 and %q:\n%s", out.Code, want, out.Stderr)
		}
	}
}

// TestAddressFollowed: the IPv6 address comes when the agent runs, then the
// IPv4 address is exchanged. Both are followed by the same process, and the old
// address is answered for by nobody from the moment that it is gone.
func TestAddressFollowed(t *testing.T) {
	t.Parallel()
	ctx, l := labtest.Build(t, dual("follow"))
	must(t, l.StartToRs(ctx))
	n, other := l.Node("r1n1"), l.Node("r1n2")
	must(t, n.NS.DeleteAddr("eth0", netip.PrefixFrom(n.Addr6, 64)))
	n.Edit = func(c *conf.Config) {
		nodeAddress("eth0")(c)
		c.IPAM = conf.IPAM{Registry: conf.Registry{Kind: "bolt"}}
	}
	must(t, n.Start(ctx))
	must(t, lab.Eventually(ctx, labtest.Patience, "the missing address to be named", func() error {
		return labtest.Problem(ctx, n, "no address of the family")
	}))
	pid := n.Process().Pid()
	must(t, n.NS.AddAddr("eth0", netip.PrefixFrom(n.Addr6, 64)))
	must(t, lab.Eventually(ctx, labtest.Patience, "the IPv6 address to be followed", func() error {
		if got, err := tunnelSource(n.NS, "onlink-vxlan6"); err != nil || got != n.Addr6 {
			return fmt.Errorf("onlink-vxlan6 sends from %s: %w", got, err)
		}
		if err := labtest.Problem(ctx, n, "no address of the family"); err == nil {
			return errors.New("the address is still missed")
		}
		_, err := n.Status(ctx)
		return err
	}))

	next := netip.MustParseAddr("10.57.1.77")
	must(t, n.NS.AddAddr("eth0", netip.PrefixFrom(next, 25))) // a network of its own, or it would go with the first
	if _, err := other.NS.Ping(ctx, n.Addr, 1, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	must(t, n.NS.DeleteAddr("eth0", netip.PrefixFrom(n.Addr, 24)))
	if _, err := other.NS.Ping(ctx, n.Addr, 2, time.Second); err == nil {
		t.Errorf("%s is answered for after it is gone", n.Addr)
	}
	must(t, lab.Eventually(ctx, labtest.Patience, "the loss to be named", func() error {
		return labtest.Problem(ctx, n, "this node has lost "+n.Addr.String())
	}))
	must(t, lab.Eventually(ctx, 2*labtest.Patience, "the new IPv4 address to be followed", func() error {
		st, err := n.Status(ctx)
		if err != nil {
			return err
		}
		if got, err := tunnelSource(n.NS, "onlink-vxlan"); err != nil || got != next || st.GetAddress() != next.String() {
			return fmt.Errorf("status says %s, onlink-vxlan sends from %s (%w)", st.GetAddress(), got, err)
		}
		return nil
	}))
	if n.Process().Exited() || n.Process().Pid() != pid {
		t.Error("the process has ended")
	}
	if _, err := other.NS.Ping(ctx, n.Addr, 2, time.Second); err == nil {
		t.Errorf("%s is answered for after it was exchanged", n.Addr)
	}
}

// nodeAddress sets node.address.
func nodeAddress(text string) func(*conf.Config) {
	return func(c *conf.Config) { c.Node.Address = text }
}

// deprecated adds an address with preferred lifetime 0, as VRRP daemons do.
func deprecated(ns *lab.NS, dev string, p netip.Prefix) error {
	link, err := ns.Link.LinkByName(dev)
	if err != nil {
		return err
	}
	return ns.Link.AddrAdd(link, &netlink.Addr{
		IPNet:    &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
		ValidLft: math.MaxInt32, PreferedLft: 0, Flags: 0x02, // IFA_F_NODAD
	})
}

// tunnelSource returns the address that a VXLAN device sends from.
func tunnelSource(ns *lab.NS, dev string) (netip.Addr, error) {
	link, err := ns.Link.LinkByName(dev)
	if err != nil {
		return netip.Addr{}, err
	}
	vxlan, ok := link.(*netlink.Vxlan)
	if !ok {
		return netip.Addr{}, fmt.Errorf("%s is a %s device", dev, link.Type())
	}
	a, _ := netip.AddrFromSlice(vxlan.SrcAddr)
	return a.Unmap(), nil
}
