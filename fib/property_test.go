package fib

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/rib"
)

// world is a Table over a kernel in memory, with the desired routes and the
// foreign routes in the kernel.
type world struct {
	rnd     *rand.Rand
	kernel  *memKernel
	table   *Table
	plain   bool
	desired map[netip.Prefix]rib.Route
	aliens  map[routeKey]memRoute // foreign routes
	log     []string
}

var (
	worldPrefixes = []netip.Prefix{
		pfx("10.1.0.0/26"), pfx("10.1.0.64/26"), pfx("10.1.0.0/24"), pfx("10.1.0.5/32"), pfx("10.2.0.0/16"), pfx("0.0.0.0/0"),
		pfx("2001:db8::/64"), pfx("2001:db8::/122"), pfx("2001:db8:1::/64"),
	}
	worldVias  = []string{"10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"}
	worldLinks = []string{"va", "vb", "tun"}
)

func newWorld(seed uint64) *world {
	rnd := rand.New(rand.NewPCG(seed, 179))
	w := &world{rnd: rnd, kernel: newMemKernel(rnd), desired: map[netip.Prefix]rib.Route{}, aliens: map[routeKey]memRoute{}}
	w.plain = rnd.IntN(2) == 0
	w.kernel.noObjects = w.plain
	for _, l := range worldLinks {
		w.kernel.addLink(l)
	}
	w.restart()
	return w
}

// restart replaces the table by one without memory.
func (w *world) restart() {
	faults := w.kernel.faults
	w.kernel.faults = 0
	w.table = New(Config{})
	w.table.connect = func(Config) (kernel, error) { return w.kernel, nil }
	if err := w.table.Open(); err != nil {
		panic(err)
	}
	w.kernel.faults = faults
	for _, r := range w.desired {
		w.table.Set(r)
	}
}

func pick[T any](rnd *rand.Rand, list []T) T { return list[rnd.IntN(len(list))] }

// route makes up a desired route of p.
func (w *world) route(p netip.Prefix) rib.Route {
	r := rib.Route{Prefix: p, Kind: rib.Unicast}
	switch w.rnd.IntN(8) {
	case 0:
		r.Kind = rib.Blackhole
		return r
	case 1:
		r.Kind = rib.Local
		r.Hops = rib.MakeHops(rib.Hop{Dev: pick(w.rnd, worldLinks)})
		return r
	}
	var hops []rib.Hop
	for range 1 + w.rnd.IntN(3) {
		via := netip.MustParseAddr(pick(w.rnd, worldVias))
		if p.Addr().Is6() && via.Is4() {
			via = netip.MustParseAddr("fd00::9")
		}
		hops = append(hops, rib.Hop{Via: via, Dev: pick(w.rnd, worldLinks), Onlink: w.rnd.IntN(2) == 0, Reason: rib.Reason(w.rnd.IntN(3))})
	}
	r.Hops = rib.MakeHops(hops...)
	return r
}

// event makes one random event.
func (w *world) event() {
	p := pick(w.rnd, worldPrefixes)
	n := w.rnd.IntN(22)
	w.log = append(w.log, fmt.Sprintf("%d %v", n, p))
	ctx := context.Background()
	switch n {
	case 0, 1, 2, 3, 4:
		r := w.route(p)
		w.desired[p] = r
		w.table.Set(r)
	case 5, 6:
		delete(w.desired, p)
		w.table.Delete(p)
	case 7, 8, 9, 10:
		_ = w.table.Apply(ctx) // its error is the injected fault
	case 11:
		_, _ = w.table.Resync(ctx)
	case 12:
		w.flap()
	case 13:
		w.table.AllowSweep()
	case 14:
		w.restart()
	default:
		w.meddle(n-15, p)
	}
}

// meddlings is the number of meddle's events.
const meddlings = 7

// meddle makes a change of the kernel that is not the Table's: by another
// program, an operator or a previous run of ours.
func (w *world) meddle(n int, p netip.Prefix) {
	key := w.table.cfg.key(p)
	held, there := w.kernel.fib[key]
	own := there && held.protocol == ours.Protocol
	_, foreign := w.aliens[key]
	switch n {
	case 0: // an operator removes one of ours
		if own {
			delete(w.kernel.fib, key)
		}
	case 1: // an operator changes one of ours
		if own {
			w.kernel.fib[key] = memRoute{protocol: ours.Protocol, kind: unix.RTN_BLACKHOLE}
		}
	case 2: // another program adds a route under a free key
		if !there {
			w.intrude(key, memRoute{protocol: unix.RTPROT_STATIC, kind: unix.RTN_BLACKHOLE})
		}
	case 3: // and removes it
		if foreign {
			delete(w.aliens, key)
			delete(w.kernel.fib, key)
		}
	case 4: // another program overwrites ours
		if own {
			w.intrude(key, memRoute{protocol: unix.RTPROT_BIRD, kind: unix.RTN_BLACKHOLE})
		}
	case 5: // a previous run of ours left a route
		if !there {
			w.kernel.fib[key] = memRoute{protocol: ours.Protocol, kind: unix.RTN_BLACKHOLE}
		}
		stray := key
		stray.metric += 7
		w.kernel.fib[stray] = memRoute{protocol: ours.Protocol, kind: unix.RTN_BLACKHOLE}
	case 6:
		w.spoilObject()
	}
}

// intrude puts a foreign route into the kernel, over any that is there.
func (w *world) intrude(key routeKey, m memRoute) {
	w.kernel.fib[key] = m
	w.aliens[key] = m
}

// flap removes or brings back a device, with or without a report to the Table.
func (w *world) flap() {
	name := pick(w.rnd, worldLinks)
	if w.kernel.links[name] != 0 {
		w.kernel.dropLink(name)
	}
	if w.rnd.IntN(2) == 0 {
		w.kernel.addLink(name)
	}
	if w.rnd.IntN(3) > 0 {
		w.table.LinkChanged(name)
	}
}

// spoilObject removes or changes one of our nexthop objects, or takes an ID.
func (w *world) spoilObject() {
	if w.plain {
		return
	}
	id := uint32(ours.FirstNexthopID + w.rnd.IntN(12))
	n, there := w.kernel.nhs[id]
	switch {
	case !there:
		w.kernel.nhs[id] = memNexthop{protocol: unix.RTPROT_STATIC}
	case n.protocol != ours.Protocol:
		delete(w.kernel.nhs, id)
	case w.rnd.IntN(2) == 0 || len(n.members) > 0:
		w.kernel.removeNexthop(id)
	default:
		n.single.via = netip.MustParseAddr("192.0.2.9")
		w.kernel.nhs[id] = n
	}
	w.calmly(func() { _, _ = w.table.Resync(context.Background()) })
}

// calmly runs f without faults.
func (w *world) calmly(f func()) {
	faults := w.kernel.faults
	w.kernel.faults = 0
	f()
	w.kernel.faults = faults
}

// render describes a route as the kernel would forward.
func (w *world) render(m memRoute) string {
	if m.kind == unix.RTN_BLACKHOLE {
		return "blackhole"
	}
	hops := m.hops
	if m.nhid != 0 {
		hops = nil
		n := w.kernel.nhs[m.nhid]
		if len(n.members) == 0 {
			hops = []wireHop{n.single}
		}
		for _, id := range n.members {
			hops = append(hops, w.kernel.nhs[id].single)
		}
	}
	var parts []string
	for _, h := range hops {
		name, _ := w.kernel.linkName(h.oif)
		parts = append(parts, fmt.Sprintf("%v %s %v", h.via, name, h.onlink))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func renderDesired(r rib.Route) string {
	if r.Kind == rib.Blackhole {
		return "blackhole"
	}
	var parts []string
	for h := range r.Hops.All() {
		parts = append(parts, fmt.Sprintf("%v %s %v", h.Via, h.Dev, h.Onlink))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// check compares the kernel with the desired routes after all changes have
// settled.
func (w *world) check() []string {
	var wrong []string
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for p, r := range w.desired {
		key := w.table.cfg.key(p)
		got, there := w.kernel.fib[key]
		ok, why := w.table.Installed(p)
		if _, foreign := w.aliens[key]; foreign {
			if ok || why == nil {
				add("%v: installed %v (%v) although foreign", p, ok, why)
			}
			continue
		}
		if !there || w.render(got) != renderDesired(r) || !ok {
			add("%v: kernel %q, want %q (installed %v, %v)", p, w.render(got), renderDesired(r), ok, why)
		}
	}
	used := map[uint32]bool{}
	for key, m := range w.kernel.fib {
		used[m.nhid] = true
		for _, id := range w.kernel.nhs[m.nhid].members {
			used[id] = true
		}
		if _, want := w.desired[key.prefix]; m.protocol == ours.Protocol && (!want || key != w.table.cfg.key(key.prefix)) {
			add("%v: not desired, still there: %+v", key, m)
		}
	}
	for id, n := range w.kernel.nhs {
		nh := w.table.routes.hops.byID[id] // a route that a foreign one keeps out may refer to it
		wanted := nh != nil && (nh.refs > 0 || nh.groups > 0)
		if n.protocol == ours.Protocol && !used[id] && !wanted {
			add("object %d is left behind: %+v", id, n)
		}
	}
	for key, put := range w.aliens {
		if m, there := w.kernel.fib[key]; !there || !m.same(put) {
			add("foreign route %v is no more what it was: %+v, not %+v", key, m, put)
		}
	}
	return append(wrong, w.kernel.wronged...)
}

// TestRandomEvents lets random events and faults happen, then lets the Table
// settle: the desired routes are in the kernel, no others of ours, and no foreign
// route was ever changed.
func TestRandomEvents(t *testing.T) {
	worlds := uint64(10_000)
	if testing.Short() {
		worlds = 1000
	}
	for seed := range worlds {
		w := newWorld(seed)
		w.kernel.faults = 0.1
		for range 60 {
			w.event()
		}
		w.kernel.faults = 0
		for _, l := range worldLinks {
			w.kernel.addLink(l)
		}
		w.table.AllowSweep()
		for range 3 {
			_, _ = w.table.Resync(context.Background())
		}
		before := writes(w.table.Stats())
		_, _ = w.table.Resync(context.Background())
		wrong := w.check()
		if n := writes(w.table.Stats()) - before; n != 0 {
			wrong = append(wrong, fmt.Sprintf("%d writes when nothing changed", n))
		}
		if len(wrong) > 0 {
			t.Fatalf("seed %d (plain %v):\n%s\nevents: %s", seed, w.plain, strings.Join(wrong, "\n"), strings.Join(w.log, "; "))
		}
	}
}
