package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/integration/lab"
	"onlink/integration/labtest"
	onlinkv1 "onlink/proto/v1"
)

// TestHostSettings: what the agent relies on is set again within seconds, and
// when somebody goes on changing it, status says so. Pools are IPv4, so the
// node stays an IPv6 host.
func TestHostSettings(t *testing.T) {
	t.Parallel()
	ctx, l := labtest.Build(t, labtest.Alone("settings"))
	must(t, l.StartToRs(ctx))
	n := l.Node("r1n1")
	must(t, n.NS.Sysctl("net/ipv6/conf/all/forwarding", "0"))
	labtest.StartNode(ctx, t, n)
	value := func(name string) (text string, err error) {
		err = n.NS.Do(func() error {
			b, err := os.ReadFile("/proc/sys/" + name)
			text = strings.TrimSpace(string(b))
			return err
		})
		return text, err
	}
	again := func(name string) {
		t.Helper()
		must(t, n.NS.Sysctl(name, "0"))
		must(t, lab.Eventually(ctx, labtest.Back, name+" to be set again", func() error {
			got, err := value(name)
			if err == nil && got != "1" {
				err = fmt.Errorf("it is %s", got)
			}
			return err
		}))
	}
	for _, name := range []string{
		"net/ipv4/conf/eth0/forwarding", "net/ipv4/fib_multipath_hash_policy", "net/ipv6/fib_multipath_hash_policy",
		"net/ipv4/conf/eth0/ignore_routes_with_linkdown",
	} {
		again(name)
	}
	for range 3 {
		again("net/ipv4/ip_forward")
	}
	must(t, lab.Eventually(ctx, labtest.Back, "the fight to be named", func() error { return labtest.Problem(ctx, n, "net.ipv4.ip_forward was changed") }))
	if got, err := value("net/ipv6/conf/all/forwarding"); err != nil || got != "0" {
		t.Errorf("net.ipv6.conf.all.forwarding is %s (%v) on a node whose pools are IPv4", got, err)
	}
	must(t, n.NS.Sysctl("net/ipv4/conf/all/rp_filter", "1"))
	must(t, n.NS.Sysctl("net/ipv4/conf/eth0/rp_filter", "1"))
	if labtest.Problem(ctx, n, "rp_filter") == nil {
		t.Error("rp_filter is a problem without tunnels")
	}
}

// TestRouterAdvertisements: a node that has its IPv6 default route from its
// routers keeps it, and hears them further on, whatever its pools are.
func TestRouterAdvertisements(t *testing.T) {
	for _, pools := range []struct {
		name  string
		cidr6 netip.Prefix
		want  string // accept_ra
	}{{"IPv4 pools", netip.Prefix{}, "1"}, {"IPv6 pools", labtest.Pool6, "2"}} {
		t.Run(pools.name, func(t *testing.T) {
			spec := labtest.Alone("ra" + pools.want)
			spec.DualStack, spec.Pool.CIDR6 = true, pools.cidr6
			ctx, l := labtest.Build(t, spec)
			n, tor := l.Node("r1n1"), l.ToRs()[0]
			must(t, l.StartToRs(ctx))
			must(t, n.NS.RemoveRoute(netip.PrefixFrom(netip.IPv6Unspecified(), 0)))
			must(t, n.NS.Sysctl("net/ipv6/conf/all/forwarding", "0"))
			must(t, n.NS.Sysctl("net/ipv6/conf/eth0/accept_ra", "1"))
			learned := func() error {
				routes, err := n.NS.Link.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Protocol: unix.RTPROT_RA}, netlink.RT_FILTER_PROTOCOL)
				if err == nil && len(routes) == 0 {
					err = errors.New("no route of protocol ra")
				}
				return err
			}
			heard := func() error { return errors.Join(advertise(tor.NS, "rack"), learned()) }
			must(t, lab.Eventually(ctx, labtest.Back, "a default route by advertisement", heard))
			labtest.StartNode(ctx, t, n)
			if err := learned(); err != nil {
				t.Errorf("the agent is ready, and the kernel has %v", err)
			}
			// Another one is heard, too.
			must(t, n.NS.SetLink("eth0", false))
			must(t, n.NS.SetLink("eth0", true))
			must(t, lab.Eventually(ctx, labtest.Back, "the default route to come back", heard))
			must(t, n.NS.Do(func() error {
				b, err := os.ReadFile("/proc/sys/net/ipv6/conf/eth0/accept_ra")
				if got := strings.TrimSpace(string(b)); err == nil && got != pools.want {
					t.Errorf("accept_ra of eth0 is %s, want %s", got, pools.want)
				}
				return err
			}))
		})
	}
}

// advertise sends one router advertisement (RFC 4861 section 4.2) that says:
// a default router for half an hour.
func advertise(ns *lab.NS, dev string) error {
	return ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		link, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		index := link.Attrs().Index
		if err := errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index),
		); err != nil {
			return err
		}
		m := make([]byte, 16)
		m[0], m[4] = 134, 64
		binary.BigEndian.PutUint16(m[6:], 1800)
		return unix.Sendto(fd, m, 0, &unix.SockaddrInet6{ZoneId: uint32(index), Addr: netip.IPv6LinkLocalAllNodes().As16()})
	})
}

// TestForwardPolicy: another program drops what the node forwards. Status names
// the chain and commands that help, explain says that the address is not
// reached, and with the commands packets flow and the problem goes.
func TestForwardPolicy(t *testing.T) {
	ctx, l := labtest.Start(t, lab.Spec{Name: "policy", Racks: 1, NodesPerRack: 2, Pool: lab.Pool{Tunnel: "vxlan", Encap: "Always"}})
	n, a, b := l.Node("r1n1"), labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r1n2")
	run := func(command string) error {
		w := strings.Fields(command)
		return n.NS.Do(func() error {
			text, err := exec.CommandContext(ctx, w[0], w[1:]...).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%s: %w: %s", command, err, text)
			}
			return nil
		})
	}
	if err := run("iptables -L FORWARD"); err != nil {
		t.Skipf("needs kernel feature: iptables (%v)", err)
	}
	labtest.ReachesWithin(ctx, t, labtest.Back, a, b, false)
	if got := explainHost(ctx, t, n, labtest.AddrOf(b, false)); got != "" {
		t.Errorf("explain of a host without chains: %s", got)
	}
	must(t, run("iptables -P FORWARD DROP"))
	var fix string
	must(t, lab.Eventually(ctx, labtest.Back, "the chain to be named", func() error {
		st, err := n.Status(ctx)
		if err != nil {
			return err
		}
		for _, p := range st.GetProblems() {
			if _, commands, found := strings.Cut(p, "let them through: "); found && strings.Contains(p, "chain FORWARD of table ip filter") {
				fix = commands
				return nil
			}
		}
		return fmt.Errorf("problems %q", st.GetProblems())
	}))
	if got := explainHost(ctx, t, n, labtest.AddrOf(b, false)); !strings.Contains(got, "chain FORWARD") {
		t.Errorf("explain says nothing of the chain: %q", got)
	}
	for command := range strings.SplitSeq(fix, "; ") {
		must(t, run(command))
	}
	labtest.ReachesWithin(ctx, t, labtest.Back, a, b, false)
	must(t, lab.Eventually(ctx, labtest.Back, "the problem to go", func() error {
		if labtest.Problem(ctx, n, "FORWARD") == nil {
			return errors.New("it is still told")
		}
		return nil
	}))
}

// explainHost returns what explain says of the host; "": nothing is in the way.
func explainHost(ctx context.Context, t *testing.T, n *lab.Node, addr netip.Addr) string {
	t.Helper()
	admin, err := n.Admin()
	must(t, err)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	reply, err := admin.Explain(ctx, &onlinkv1.ExplainRequest{Address: addr.String()})
	must(t, err)
	for _, s := range reply.GetSteps() {
		if s.GetName() == "host" {
			if reply.GetReachable() {
				t.Errorf("%s is called reachable: %s", addr, s.GetDetail())
			}
			return s.GetDetail()
		}
	}
	return ""
}
