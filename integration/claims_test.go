package integration

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"

	"onlink/bgp/hostile"
	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/internal/ours"
	"onlink/nft"
)

// claimant is a peer that claims what is not its own: on one session, which
// stays up.
type claimant struct {
	name   string
	set    hostile.Set
	self   netip.Addr
	self6  netip.Addr
	public netip.Prefix // what it may announce
	public6,
	subnet netip.Prefix // that it shares with the speaker
	hears  []*lab.Node // whose kernels what it may announce comes to
	isNode bool        // the next hops of what it may announce in pools are nodes'

	peer  *hostile.Peer
	ended <-chan string
	marks int
	wrong int
}

const (
	// calm bounds how long a kernel may take to be as it was.
	calm = 10 * time.Second
	// enoughWrong ends a test that fails everywhere.
	enoughWrong = 8
)

// scene is what a node's kernel holds: its routes in table main, who the tunnel
// guard lets in, and the entries of the VXLAN devices.
type scene struct {
	Routes  []string
	Guard   []netip.Addr
	Tunnels []string
}

// lookAt reads a node's kernel, but for the routes to some prefixes and some
// nodes.
func lookAt(n *lab.Node, but []netip.Prefix, strangers []netip.Addr) (s scene, err error) {
	routes, err := allRoutes(n.NS)
	if err != nil {
		return s, err
	}
	for _, r := range routes {
		if !slices.Contains(but, r.Prefix) {
			s.Routes = append(s.Routes, r.String())
		}
	}
	known := func(list []netip.Addr) []netip.Addr {
		return slices.DeleteFunc(list, func(a netip.Addr) bool { return slices.Contains(strangers, a) })
	}
	guard, err := guardOf(n.NS)
	if err != nil {
		return s, err
	}
	s.Guard = known(guard)
	for _, dev := range []string{"onlink-vxlan", "onlink-vxlan6"} {
		far, neighbours, err := n.NS.Tunnelled(dev)
		if err != nil {
			return s, err
		}
		s.Tunnels = append(s.Tunnels, fmt.Sprintf("%s to %v, neighbours %v", dev, known(far), known(neighbours)))
	}
	return s, nil
}

func (s scene) equal(o scene) bool {
	return slices.Equal(s.Routes, o.Routes) && slices.Equal(s.Guard, o.Guard) && slices.Equal(s.Tunnels, o.Tunnels)
}

// allRoutes are those of every protocol that onlink or the kernel installs.
func allRoutes(ns *lab.NS) ([]lab.KernelRoute, error) {
	var out []lab.KernelRoute
	for _, protocol := range []int{labtest.RouteProtocol, 2 /* kernel */, 4 /* static */, 3 /* boot */} {
		routes, err := ns.Routes(protocol)
		if err != nil {
			return nil, err
		}
		out = append(out, routes...)
	}
	return out, nil
}

// guardOf returns whose tunnelled packets a node takes, sorted.
func guardOf(ns *lab.NS) (out []netip.Addr, err error) {
	if nft.Supported() != nil {
		return nil, nil //nolint:nilerr // no guard
	}
	err = ns.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := &nftables.Table{Name: ours.FilterTable, Family: nftables.TableFamilyINet}
		for _, name := range []string{"nodes4", "nodes6"} {
			set, err := conn.GetSetByName(table, name)
			if err != nil {
				return fmt.Errorf("set %s: %w", name, err)
			}
			elements, err := conn.GetSetElements(set)
			if err != nil {
				return fmt.Errorf("elements of %s: %w", name, err)
			}
			for _, e := range elements {
				if a, ok := netip.AddrFromSlice(e.Key); ok {
					out = append(out, a)
				}
			}
		}
		return nil
	})
	slices.SortFunc(out, netip.Addr.Compare)
	return out, err
}

// TestClaims plays well-formed claims on what is somebody else's: from a client
// of the reflector, and from a ToR of each of two nodes that was given
// 10.0.0.0/8. After each of them the kernels of both nodes, and of the
// reflector, are as they were: the routes, the tunnel guard and the tunnels'
// entries.
func TestClaims(t *testing.T) {
	t.Parallel()
	if err := nft.Supported(); err != nil {
		t.Skip("needs kernel feature: nftables")
	}
	ctx, l := labtest.Build(t, lab.Spec{Name: "claims", DualStack: true, Pool: lab.Pool{CIDR6: labtest.Pool6, Tunnel: "vxlan"}})
	near, far, rr := l.Node("r1n1"), l.Node("r2n1"), l.Reflectors()[0]
	nodes := []*lab.Node{rr, near, far}
	services, services6 := netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd96::/64")
	peers := []*claimant{
		{
			name: "client", set: hostile.Set{AS: lab.NodeASN}, self: netip.MustParseAddr("10.57.1.12"), self6: netip.MustParseAddr("fd57:1::12"),
			public: services, public6: services6, subnet: netip.MustParsePrefix("10.57.1.0/24"), hears: nodes, isNode: true,
		},
		{
			name: "tor of the near node", set: hostile.Set{AS: strangeASN, External: true}, self: netip.MustParseAddr("10.57.1.60"), self6: netip.MustParseAddr("fd57:1::12"),
			public: netip.MustParsePrefix("10.200.0.0/16"), public6: netip.MustParsePrefix("fd20::/64"), subnet: netip.MustParsePrefix("10.57.1.0/24"), hears: []*lab.Node{near},
		},
		{
			name: "tor of the far node", set: hostile.Set{AS: strangeASN, External: true}, self: netip.MustParseAddr("10.57.2.60"), self6: netip.MustParseAddr("fd57:2::12"),
			public: netip.MustParsePrefix("10.201.0.0/16"), public6: netip.MustParsePrefix("fd20::/64"), subnet: netip.MustParsePrefix("10.57.2.0/24"), hears: []*lab.Node{far},
		},
	}
	accepts := conf.Rules(services, services6)
	rr.Edit = func(c *conf.Config) { c.BGP.Reflector.Import.Accept = accepts }
	for i, n := range []*lab.Node{near, far} {
		n.Edit = func(c *conf.Config) {
			c.BGP.Peer(rr.Name).Import.Accept = accepts
			c.BGP.Peers = append(c.BGP.Peers, &conf.Peer{
				Name: "claimant", Address: peers[1+i].self.String(), ASN: strangeASN, Passive: true,
				Import: conf.Import{Accept: conf.Rules("10.0.0.0/8", "fd00::/8")},
			})
		}
	}
	must(t, l.StartToRs(ctx))
	for _, n := range nodes {
		labtest.StartNode(ctx, t, n)
	}
	for _, n := range []*lab.Node{near, far} {
		_, err := n.AddPod(ctx, n.Name+"-pod")
		must(t, err)
	}
	for i, from := range []*lab.NS{l.Node("r1n2").NS, l.Node("r1n2").NS, l.Node("r2n2").NS} {
		peers[i].connect(ctx, t, from, []*lab.Node{rr, near, far}[i])
	}
	must(t, lab.Eventually(ctx, labtest.Patience, "the blocks are known", func() error { return knownBlocks(ctx, nodes, map[*lab.Node]int{near: 4, far: 4, rr: 2}) }))
	before := map[string]scene{}
	for _, n := range nodes {
		s, err := lookAt(n, nil, nil)
		must(t, err)
		before[n.Name] = s
	}
	for _, p := range peers {
		t.Run(p.name, func(t *testing.T) {
			for estate := range 4 { // each claim is made on one of them at least
				victim, v6 := []*lab.Node{near, far}[estate/2], estate%2 == 1
				for i, c := range p.claims(labtest.BlockOfFamily(ctx, t, victim, v6), victim) {
					if every := labtest.Times(4, 1); i%every == estate%every {
						p.play(ctx, t, c, nodes, before)
					}
				}
			}
			t.Logf("%d claims", p.marks)
			select {
			case how := <-p.ended:
				t.Errorf("the session ended: %s", how)
			default:
			}
		})
	}
	t.Run("an honest service", func(t *testing.T) { checkPodService(ctx, t, l, peers[0], near, far) })
}

// knownBlocks wants so many blocks of each node in the kernels of all.
func knownBlocks(ctx context.Context, nodes []*lab.Node, count map[*lab.Node]int) error {
	for owner, want := range count {
		blocks, err := owner.Blocks(ctx)
		if err != nil {
			return err
		}
		if len(blocks) != want {
			return fmt.Errorf("%s has %d blocks, want %d", owner.Name, len(blocks), want)
		}
		for _, b := range blocks {
			for _, n := range nodes {
				if err := labtest.HasRoute(n, netip.MustParsePrefix(b.GetCidr()), labtest.RouteProtocol); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// connect brings the session up, and keeps it up until the test ends.
func (p *claimant) connect(ctx context.Context, t *testing.T, from *lab.NS, speaker *lab.Node) {
	t.Helper()
	if a := netip.PrefixFrom(p.self, 32); from.HasAddr("eth0", netip.PrefixFrom(p.self, 24)) != nil {
		must(t, from.AddAddr("eth0", a))
	}
	must(t, lab.Eventually(ctx, labtest.Patience, "a session of the "+p.name, func() error {
		return from.Do(func() (err error) {
			p.peer, err = p.set.Establish(ctx, p.self, netip.AddrPortFrom(speaker.Addr, 179), labtest.Patience)
			return err
		})
	}))
	p.ended = p.peer.Stay(30 * time.Second)
	t.Cleanup(func() { _ = p.peer.Conn.Close() })
}

// claims are those on a block of the victim.
func (p *claimant) claims(block netip.Prefix, victim *lab.Node) []hostile.Claim {
	e := hostile.Estate{
		Block: block, Node: victim.Addr, Pool: netip.MustParsePrefix("10.244.0.0/16"), Free: netip.MustParsePrefix("10.244.255.192/26"),
		Far: netip.MustParseAddr("10.9.9.9"), Subnet: p.subnet, Public: p.public,
	}
	self := p.self
	if block.Addr().Is6() {
		e.Node, e.Pool, e.Free, e.Far = victim.Addr6, labtest.Pool6, netip.MustParsePrefix("fd44:0:0:ffff:ffff:ffff:ffff:ffc0/122"), netip.MustParseAddr("fd09::9")
		e.Subnet, e.Public, self = netip.Prefix{}, p.public6, p.self6
	}
	return e.Claims(self)
}

// mark is a prefix that the claimant may announce; it is announced behind a
// claim, so where it has arrived the claim has been dealt with.
func (p *claimant) mark() netip.Prefix {
	p.marks++
	b := p.public.Addr().As4()
	b[2], b[3] = 128+byte(p.marks>>8), byte(p.marks)
	return netip.PrefixFrom(netip.AddrFrom4(b), 32)
}

// play makes one claim and looks at the kernels of the nodes, then withdraws it.
func (p *claimant) play(ctx context.Context, t *testing.T, c hostile.Claim, nodes []*lab.Node, before map[string]scene) {
	t.Helper()
	mark := p.mark()
	defer func() {
		p.peer.Send(2, p.set.Withdraw(c.Prefix))
		p.peer.Send(2, p.set.Withdraw(mark))
	}()
	p.peer.Send(2, p.set.Announce(c))
	p.peer.Send(2, p.set.Announce(hostile.Claim{Prefix: mark, NextHop: p.self}))
	must(t, lab.Eventually(ctx, labtest.Patience, c.Name+": the mark behind it arrives", func() error {
		for _, n := range p.hears {
			if err := labtest.HasRoute(n, mark, labtest.RouteProtocol); err != nil {
				return err
			}
		}
		return nil
	}))
	but, strangers := []netip.Prefix{mark}, []netip.Addr(nil)
	if !c.Never {
		but = append(but, c.Prefix)
		if p.isNode {
			strangers = append(strangers, c.NextHop)
		}
	}
	for _, n := range nodes {
		var diff string
		err := lab.Eventually(ctx, calm, "as before", func() error {
			more := slices.DeleteFunc(slices.Clone(strangers), func(a netip.Addr) bool { return slices.Contains(before[n.Name].Guard, a) })
			now, err := lookAt(n, but, more)
			if err != nil {
				return err
			}
			if now.equal(before[n.Name]) {
				return nil
			}
			diff = cmp.Diff(before[n.Name], now, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }))
			return errors.New("the kernel changed")
		})
		if err != nil {
			t.Errorf("%s from the %s: %s: -before +now\n%s", c.Name, p.name, n.Name, diff)
			if p.wrong++; p.wrong == enoughWrong {
				t.FailNow()
			}
		}
	}
}

// checkPodService announces a service address with the far node's pod as next
// hop, as the pod would: on its node it leads to the pod's device, elsewhere to
// its node, and packets arrive.
func checkPodService(ctx context.Context, t *testing.T, l *lab.Lab, p *claimant, near, far *lab.Node) {
	pod, from := labtest.PodOf(l, far.Name), labtest.PodOf(l, near.Name)
	for _, v6 := range []bool{false, true} {
		block, dev, node := labtest.BlockOfFamily(ctx, t, far, v6), "onlink-vxlan", far.Addr
		service := netip.PrefixFrom(p.public.Addr().Next(), 32)
		if v6 {
			dev, node, service = "onlink-vxlan6", far.Addr6, netip.PrefixFrom(p.public6.Addr().Next(), 128)
		}
		must(t, pod.NS.AddAddr("lo", service))
		p.peer.Send(2, p.set.Announce(hostile.Claim{Prefix: service, NextHop: labtest.AddrOf(pod, v6)}))
		labtest.WantHop(ctx, t, near, service, lab.KernelHop{Via: node, Dev: dev})
		labtest.WantHop(ctx, t, near, block, lab.KernelHop{Via: node, Dev: dev})
		devices, err := far.NS.Devices("onl")
		must(t, err)
		devices = slices.DeleteFunc(devices, func(d string) bool { return strings.HasPrefix(d, "onlink-") })
		if len(devices) != 1 {
			t.Fatalf("%s has the pod devices %v, want one", far.Name, devices)
		}
		labtest.WantHop(ctx, t, far, service, lab.KernelHop{Via: labtest.AddrOf(pod, v6), Dev: devices[0]})
		labtest.Answers(ctx, t, from.NS, service.Addr())
		routes, err := near.Ctl(ctx, "routes")
		must(t, err)
		if !strings.Contains(routes.Stdout, "through-pool-route") {
			t.Errorf("routes does not say why:\n%s", routes.Stdout)
		}
		p.peer.Send(2, p.set.Withdraw(service))
	}
}
