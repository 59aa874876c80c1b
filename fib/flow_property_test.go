package fib

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"onlink/rib"
)

// hood is the underlay of a flow: the kernel's routes beside ours, in memory, as
// the next hops resolve by them.
type hood struct {
	nets   map[netip.Prefix]string  // connected networks, and their device
	static map[netip.Prefix]rib.Hop // others' routes; without a device a blackhole
}

var (
	hoodLinks = []string{"eth0", "eth1", "tun4", "tun6", "pod0", "pod1"}
	hoodSelf  = netip.MustParseAddr("10.0.0.10")
	hoodNets  = map[netip.Prefix]string{
		pfx("10.0.0.0/24"): "eth0", pfx("10.0.0.0/30"): "eth0", pfx("192.168.1.0/24"): "eth1", pfx("10.9.0.2/32"): "eth1",
		pfx("fd00::/64"): "eth0", pfx("fd00:1::/64"): "eth1",
	}
	hoodStatic = []netip.Prefix{
		pfx("0.0.0.0/0"), pfx("10.9.0.0/16"), pfx("10.0.0.2/32"), pfx("192.168.1.2/32"), pfx("::/0"), pfx("fd00:9::/32"), pfx("fd00::2/128"),
	}
	hoodGates    = []string{"10.0.0.254", "192.168.1.254", "fd00::fe", "fd00:1::fe"}
	flowNextHops = []string{"10.0.0.1", "10.0.0.2", "10.0.0.10", "192.168.1.2", "10.9.0.1", "10.9.0.2", "fd00::1", "fd00::2", "fd00:9::1"}
	flowPrefixes = []netip.Prefix{
		pfx("10.244.0.0/26"), pfx("10.244.0.64/26"), pfx("10.244.1.0/26"), pfx("10.244.0.5/32"), pfx("10.0.0.0/24"), pfx("10.9.0.0/16"),
		pfx("10.0.0.0/8"), pfx("0.0.0.0/0"), pfx("fd44::/122"), pfx("fd44::40/122"), pfx("fd44::5/128"), pfx("fd00:9::/32"), pfx("::/0"),
	}
	flowPods = []netip.Prefix{pfx("10.244.0.5/32"), pfx("10.244.0.66/32"), pfx("fd44::5/128")}
	flowOwn  = []netip.Prefix{pfx("10.244.0.0/26"), pfx("10.244.1.0/26"), pfx("fd44::/122")}
)

// Reach returns the longest match among the routes of others.
func (h *hood) Reach(nh netip.Addr) rib.Reach {
	best := rib.Reach{}
	longer := func(p netip.Prefix) bool {
		return p.Contains(nh) && (!best.Match.IsValid() || p.Bits() > best.Match.Bits())
	}
	for p, hop := range h.static {
		switch {
		case !longer(p):
		case hop.Dev == "":
			best = rib.Reach{Kind: rib.Blackholed, Match: p}
		default:
			best = rib.Reach{Kind: rib.Gateway, Hops: rib.MakeHops(hop), Match: p}
		}
	}
	for p, dev := range h.nets {
		if longer(p) {
			best = rib.Reach{Kind: rib.OnLink, Hops: rib.MakeHops(rib.Hop{Dev: dev}), Match: p}
		}
	}
	if nh == hoodSelf && best.Kind == rib.OnLink {
		best.Kind, best.Hops = rib.Self, rib.Hops{}
	}
	return best
}

// flow is the learn flow over a kernel in memory: paths and the underlay are the
// input of rib, its decisions that of fib. It keeps all input, so that it can be
// decided from scratch.
type flow struct {
	*world
	hood *hood
	rib  *rib.Table

	paths  map[netip.Prefix][]rib.Path
	pods   map[netip.Prefix]string
	own    []netip.Prefix
	pools  []rib.Pool
	permit rib.Permit

	// The changes of the underlay that rib and fib have not received yet.
	news  []netip.Prefix
	links map[string]bool
}

func newFlow(seed uint64) *flow {
	f := &flow{
		world: newWorld(seed), links: map[string]bool{},
		paths: map[netip.Prefix][]rib.Path{}, pods: map[netip.Prefix]string{},
	}
	f.hood = &hood{nets: map[netip.Prefix]string{}, static: map[netip.Prefix]rib.Hop{}}
	for _, l := range hoodLinks {
		f.kernel.addLink(l)
	}
	for p, dev := range hoodNets {
		f.connect(p, dev)
	}
	f.pools = []rib.Pool{
		{Prefix: pfx("10.244.0.0/16"), Tunnel: "tun4", Tunnel6: "tun6"},
		{Prefix: pfx("fd44::/48"), Tunnel6: "tun6"},
	}
	f.news = f.news[:0]
	f.rib = f.scratch()
	return f
}

// scratch decides all input from nothing.
func (f *flow) scratch() *rib.Table {
	t := rib.NewTable(f.hood)
	t.SetPermitted(f.permit)
	t.SetPools(f.pools)
	t.SetOwn(f.own)
	for p, dev := range f.pods {
		t.SetPod(p, dev)
	}
	for p, paths := range f.paths {
		t.Update(rib.Update{Prefix: p, Paths: paths})
	}
	return t
}

// connect puts an address on a device: the kernel adds its network.
func (f *flow) connect(p netip.Prefix, dev string) {
	f.hood.nets[p] = dev
	f.intrude(f.table.cfg.key(p), memRoute{protocol: unix.RTPROT_KERNEL, kind: unix.RTN_UNICAST, hops: []wireHop{{oif: f.kernel.links[dev]}}})
	f.news = append(f.news, p)
}

// route makes p a foreign static route, over a gateway or a blackhole.
func (f *flow) route(p netip.Prefix) {
	gate := netip.MustParseAddr(pick(f.rnd, hoodGates))
	hop := rib.Hop{Via: gate, Dev: pick(f.rnd, []string{"eth0", "eth1"})}
	m := memRoute{protocol: unix.RTPROT_STATIC, kind: unix.RTN_UNICAST, hops: []wireHop{{via: gate, oif: f.kernel.links[hop.Dev]}}}
	if f.rnd.IntN(5) == 0 || gate.Is4() != p.Addr().Is4() {
		hop, m = rib.Hop{}, memRoute{protocol: unix.RTPROT_STATIC, kind: unix.RTN_BLACKHOLE}
	} else if f.kernel.links[hop.Dev] == 0 {
		return
	}
	f.hood.static[p] = hop
	f.intrude(f.table.cfg.key(p), m)
	f.news = append(f.news, p)
}

// withdraw removes a network or a static route of the underlay.
func (f *flow) withdraw(p netip.Prefix) {
	delete(f.hood.nets, p)
	delete(f.hood.static, p)
	key := f.table.cfg.key(p)
	if _, foreign := f.aliens[key]; foreign {
		delete(f.aliens, key)
		delete(f.kernel.fib, key)
	}
	f.news = append(f.news, p)
}

// cut removes a device with all that goes over it, or brings it back bare.
func (f *flow) cut(dev string) {
	f.links[dev] = true
	if f.kernel.links[dev] == 0 {
		f.kernel.addLink(dev)
		return
	}
	f.kernel.dropLink(dev)
	for p, d := range f.hood.nets {
		if d == dev {
			f.withdraw(p)
		}
	}
	for p, hop := range f.hood.static {
		if hop.Dev == dev {
			f.withdraw(p)
		}
	}
}

// deliver passes the changes of the underlay to rib and fib; at times they are
// lost, and any next hop may be reached otherwise.
func (f *flow) deliver() {
	var moved []netip.Addr
	for nh := range f.rib.NextHops() {
		if slices.ContainsFunc(f.news, func(p netip.Prefix) bool { return p.Contains(nh) }) {
			moved = append(moved, nh)
		}
	}
	if f.rnd.IntN(8) == 0 {
		f.rib.AllNextHopsChanged()
	} else {
		f.rib.NextHopsChanged(moved)
	}
	f.table.LinkChanged(slices.Sorted(maps.Keys(f.links))...)
	f.news = f.news[:0]
	clear(f.links)
}

// install passes rib's decisions to fib.
func (f *flow) install() {
	for _, c := range f.rib.Drain() {
		if c.Deleted {
			delete(f.desired, c.Route.Prefix)
			f.table.Delete(c.Route.Prefix)
		} else {
			f.desired[c.Route.Prefix] = c.Route
			f.table.Set(c.Route)
		}
	}
}

// update passes another set of best paths of p.
func (f *flow) update(p netip.Prefix) {
	var paths []rib.Path
	for range f.rnd.IntN(4) {
		nh := netip.MustParseAddr(pick(f.rnd, flowNextHops))
		peer := nh
		if f.rnd.IntN(2) == 0 {
			peer = netip.MustParseAddr("10.0.0.1")
		}
		paths = append(paths, rib.Path{NextHop: nh, Peer: peer, EBGP: f.rnd.IntN(3) == 0})
	}
	delete(f.paths, p)
	if len(paths) > 0 {
		f.paths[p] = paths
	}
	f.rib.Update(rib.Update{Prefix: p, Paths: paths})
}

// configure makes a change of an operator, a pod or a block.
func (f *flow) configure() {
	switch f.rnd.IntN(6) {
	case 0:
		for i := range f.pools {
			f.pools[i].Encap = rib.Encap(f.rnd.IntN(3))
		}
		f.rib.SetPools(f.pools)
	case 1:
		f.own = nil
		for range f.rnd.IntN(3) {
			f.own = append(f.own, pick(f.rnd, flowOwn))
		}
		f.rib.SetOwn(f.own)
	case 2:
		f.permit = rib.Permit{Default: f.rnd.IntN(2) == 0}
		if f.rnd.IntN(2) == 0 {
			f.permit.NodeSubnets = []netip.Prefix{pfx("10.0.0.0/24"), pfx("fd00::/64")}
			f.permit.Peers = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00:9::1")}
		}
		f.rib.SetPermitted(f.permit)
	default:
		p := pick(f.rnd, flowPods)
		if _, there := f.pods[p]; there {
			delete(f.pods, p)
			f.rib.DeletePod(p)
		} else {
			f.pods[p] = pick(f.rnd, []string{"pod0", "pod1"})
			f.rib.SetPod(p, f.pods[p])
		}
	}
}

// begin replaces the agent by one without memory.
func (f *flow) begin() {
	clear(f.desired)
	f.restart()
	f.rib = f.scratch()
	f.news = f.news[:0]
	clear(f.links)
}

// event makes one random event.
func (f *flow) event() {
	n := f.rnd.IntN(40)
	p := pick(f.rnd, flowPrefixes)
	f.log = append(f.log, fmt.Sprintf("%d %v", n, p))
	ctx := context.Background()
	switch {
	case n < 12:
		f.update(p)
	case n < 15:
		f.configure()
	case n < 17:
		f.cut(pick(f.rnd, hoodLinks))
	case n < 19:
		p := pick(f.rnd, slices.SortedFunc(maps.Keys(hoodNets), netip.Prefix.Compare))
		if _, there := f.hood.nets[p]; there {
			f.withdraw(p)
		} else if f.kernel.links[hoodNets[p]] != 0 {
			f.connect(p, hoodNets[p])
		}
	case n < 21:
		p := pick(f.rnd, hoodStatic)
		if _, there := f.hood.static[p]; there {
			f.withdraw(p)
		} else if _, there := f.hood.nets[p]; !there {
			f.route(p)
		}
	case n < 25:
		f.deliver()
	case n < 31:
		f.install()
		_ = f.table.Apply(ctx) // its error is the injected fault
	case n < 33:
		_, _ = f.table.Resync(ctx)
		f.install()
	case n < 38:
		f.meddle(f.rnd.IntN(meddlings), p)
	case n < 39:
		f.table.AllowSweep()
	default:
		f.begin()
	}
}

// meddle is world's; the underlay changes with the foreign routes.
func (f *flow) meddle(n int, p netip.Prefix) {
	f.world.meddle(n, p)
	if _, foreign := f.aliens[f.table.cfg.key(p)]; !foreign {
		f.withdraw(p)
	} else if _, known := f.hood.nets[p]; !known && f.hood.static[p] == (rib.Hop{}) {
		f.hood.static[p] = rib.Hop{}
		f.news = append(f.news, p)
	}
}

// incremental returns the differences between the decisions and those from
// scratch.
func (f *flow) incremental() []string {
	got, want := slices.Collect(f.rib.Routes()), slices.Collect(f.scratch().Routes())
	if slices.Equal(got, want) {
		return nil
	}
	return []string{fmt.Sprintf("decided %s\nfrom scratch %s", spellRoutes(got), spellRoutes(want))}
}

func spellRoutes(routes []rib.Route) string {
	var b strings.Builder
	for _, r := range routes {
		fmt.Fprintf(&b, "\n  %v %v %v [%s]", r.Prefix, r.Kind, r.Reason, renderDesired(r))
	}
	return b.String()
}

// settle ends the faults, brings every device back and reports that to the agent.
func (f *flow) settle() []string {
	ctx := context.Background()
	f.kernel.faults = 0
	for _, l := range hoodLinks {
		f.kernel.addLink(l)
		f.links[l] = true
	}
	f.deliver()
	wrong := f.incremental()
	f.install()
	f.table.AllowSweep()
	for range 3 {
		_, _ = f.table.Resync(ctx)
	}
	before := writes(f.table.Stats())
	_, _ = f.table.Resync(ctx)
	if n := writes(f.table.Stats()) - before; n != 0 {
		wrong = append(wrong, fmt.Sprintf("%d writes when nothing changed", n))
	}
	for r := range f.scratch().Routes() {
		if told, ok := f.desired[r.Prefix]; ok != r.Kind.Installable() || ok && told != r {
			wrong = append(wrong, fmt.Sprintf("fib was told %+v (%v), decided is %+v", told, ok, r))
		}
	}
	return append(wrong, f.check()...)
}

// TestRandomFlows lets random paths, links, addresses, routes, operators and
// faults happen to rib and fib together. After any of them, incremental decisions
// are those from scratch as soon as the underlay has reported; and in the end the
// kernel holds the decided routes, no other of ours, and every foreign route as
// its owner wrote it.
func TestRandomFlows(t *testing.T) {
	flows := uint64(10_000)
	if testing.Short() {
		flows = 1000
	}
	const parts = 4
	for part := range uint64(parts) {
		t.Run(fmt.Sprintf("part %d", part), func(t *testing.T) {
			t.Parallel()
			for seed := part; seed < flows; seed += parts {
				oneFlow(t, seed)
			}
		})
	}
}

func oneFlow(t *testing.T, seed uint64) {
	t.Helper()
	f := newFlow(seed)
	f.kernel.faults = 0.1
	var wrong []string
	for i := range 50 {
		f.event()
		if i%5 == 0 && len(f.news) == 0 {
			wrong = append(wrong, f.incremental()...)
		}
	}
	wrong = append(wrong, f.settle()...)
	if len(wrong) > 0 {
		t.Fatalf("seed %d (plain %v):\n%s\nevents: %s", seed, f.plain, strings.Join(wrong, "\n"), strings.Join(f.log, "; "))
	}
}
