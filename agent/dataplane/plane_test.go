package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"onlink/fib"
	"onlink/internal/ours"
	"onlink/rib"
	"onlink/tunnel"
)

var (
	own4  = netip.MustParseAddr("10.57.0.11")
	nodeA = netip.MustParseAddr("10.57.0.12")
	nodeB = netip.MustParseAddr("10.58.0.12")
)

// links is the node's links: the MTU of the device of each address.
type links map[netip.Addr]int

func (l links) LinkFor(a netip.Addr) (dev string, mtu int) { return "nosuch0", l[a] }

// tunnels notes what it is asked to do.
type tunnels struct {
	did     []string
	lacks   map[string]error // devices that cannot be made
	reset   []string         // devices that the next Ensure makes anew
	foreign []string
	err     error // of the entries
}

func (f *tunnels) Ensure(_ context.Context, desired []tunnel.Desired) ([]tunnel.Device, error) {
	var out []tunnel.Device
	var errs []error
	for _, d := range desired {
		if err := f.lacks[d.Name]; err != nil {
			errs = append(errs, fmt.Errorf("ensure tunnel %s: %w", d.Name, err))
			continue
		}
		out = append(out, tunnel.Device{Name: d.Name, Reset: slices.Contains(f.reset, d.Name)})
	}
	f.reset = nil
	return out, errors.Join(errs...)
}

func (f *tunnels) Foreign() []string { return f.foreign }
func (f *tunnels) AddNodes(_ context.Context, d tunnel.Desired, nodes []netip.Addr) error {
	f.did = append(f.did, fmt.Sprint("add ", d.Name, nodes))
	return f.err
}

func (f *tunnels) KeepNodes(_ context.Context, d tunnel.Desired, nodes []netip.Addr) error {
	f.did = append(f.did, fmt.Sprint("keep ", d.Name, nodes))
	return f.err
}

func (f *tunnels) Remove(_ context.Context, names []string) error {
	f.did = append(f.did, fmt.Sprint("remove ", names))
	return f.err
}

// take returns what was done since the last take.
func (f *tunnels) take() []string {
	did := f.did
	f.did = nil
	return did
}

// routes is a decision of some nodes.
type routes struct {
	generation uint64
	nodes      []netip.Addr
	ways       map[netip.Addr]int
}

func (r *routes) Generation() uint64  { return r.generation }
func (r *routes) Nodes() []netip.Addr { return slices.Clone(r.nodes) }
func (*routes) Devices() []string     { return []string{"nosuch0"} }
func (r *routes) ReachOf(a netip.Addr) (rib.Reach, bool) {
	var hops []rib.Hop
	for i := range r.ways[a] {
		hops = append(hops, rib.Hop{Via: netip.AddrFrom4([4]byte{10, 57, byte(i), 1}), Dev: "nosuch0"})
	}
	return rib.Reach{Kind: rib.Gateway, Hops: rib.MakeHops(hops...)}, true
}

func newPlane(t *tunnels, l links, names ...string) *Plane {
	var wanted []tunnel.Desired
	for _, name := range names {
		kind := tunnel.IPIP
		if name == ours.DeviceVXLAN || name == ours.DeviceVXLAN6 {
			kind = tunnel.VXLAN
		}
		wanted = append(wanted, tunnel.Desired{Name: name, Kind: kind, Local: own4})
	}
	return New(Config{Log: slog.New(slog.DiscardHandler), Links: l, Tunnels: t, Wanted: wanted, Locals: []netip.Addr{own4}})
}

// TestAdmit: entries exist for the nodes that are known now, cost nothing while
// no route changes, are compared with the kernel now and then, and go only when
// the node is in sync.
func TestAdmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, r := &tunnels{}, &routes{generation: 1, nodes: []netip.Addr{nodeB, nodeA}}
		p := newPlane(f, nil, ours.DeviceVXLAN)
		want := func(step string, did ...string) {
			t.Helper()
			if diff := cmp.Diff(did, f.take()); diff != "" {
				t.Errorf("%s: %s", step, diff)
			}
		}
		admit := func() { p.Admit(t.Context(), r) }
		admit()
		want("the first routes", "add onlink-vxlan[10.57.0.12 10.58.0.12]")
		p.Dismiss(t.Context(), false)
		want("not in sync")
		admit()
		want("no change")
		time.Sleep(nodesCheck)
		admit()
		want("compared with the kernel", "add onlink-vxlan[10.57.0.12 10.58.0.12]")
		r.generation, r.nodes = 2, []netip.Addr{nodeA}
		admit()
		want("a node went", "add onlink-vxlan[10.57.0.12]")
		p.InSync()
		admit()
		want("in sync", "add onlink-vxlan[10.57.0.12]")
		p.Dismiss(t.Context(), true)
		want("what is left over goes", "keep onlink-vxlan[10.57.0.12]", "remove [onlink-ipip onlink-ip6 onlink-vxlan6]")
		p.Dismiss(t.Context(), true)
		want("once")
		p.Recheck()
		admit()
		want("asked for", "add onlink-vxlan[10.57.0.12]")
		if p.Nodes() != 1 || !slices.Equal(p.Devices(), []string{"nosuch0"}) {
			t.Errorf("%d nodes over %v", p.Nodes(), p.Devices())
		}
	})
}

// TestKept: nodes of a previous run's routes are let in until the node is in
// sync.
func TestKept(t *testing.T) {
	f, r := &tunnels{}, &routes{generation: 1, nodes: []netip.Addr{nodeA}}
	p := newPlane(f, nil, ours.DeviceVXLAN)
	pool := netip.MustParsePrefix("10.244.0.0/16")
	p.Filter.SetPools([]netip.Prefix{pool}, nil)
	p.Filter.Keep([]fib.KernelRoute{{Prefix: netip.MustParsePrefix("10.244.9.0/26"), Hops: []fib.KernelHop{{Via: nodeB}}}}, nil)
	p.Admit(t.Context(), r)
	if p.Nodes() != 2 {
		t.Errorf("%d nodes, want the kept one too", p.Nodes())
	}
	p.InSync()
	p.Admit(t.Context(), r)
	if p.Nodes() != 1 {
		t.Errorf("%d nodes in sync", p.Nodes())
	}
}

// TestAdmitFails: a failure is a problem until it is over, and is tried again
// soon.
func TestAdmitFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, r := &tunnels{err: errors.New("no buffer")}, &routes{generation: 1, nodes: []netip.Addr{nodeA}}
		p := newPlane(f, nil, ours.DeviceVXLAN)
		p.Admit(t.Context(), r)
		if diff := cmp.Diff([]string{"nodes: no buffer"}, p.Problems()); diff != "" {
			t.Error(diff)
		}
		f.take()
		f.err = nil
		time.Sleep(RepairEvery)
		p.Admit(t.Context(), r)
		if len(f.take()) != 1 || len(p.Problems()) != 0 {
			t.Errorf("problems %q", p.Problems())
		}
	})
}

// TestForeignDevice: a device in a tunnel's place is neither given entries nor
// tried to be removed again and again.
func TestForeignDevice(t *testing.T) {
	f, r := &tunnels{foreign: []string{ours.DeviceVXLAN}}, &routes{generation: 1, nodes: []netip.Addr{nodeA}}
	p := newPlane(f, nil, ours.DeviceVXLAN)
	p.Admit(t.Context(), r)
	if did := f.take(); did != nil {
		t.Errorf("did %q to somebody else's device", did)
	}
	f.err = tunnel.ErrForeign
	p.Dismiss(t.Context(), true)
	f.take()
	r.generation = 2
	p.Admit(t.Context(), r)
	p.Dismiss(t.Context(), true)
	if did := f.take(); did != nil || len(p.Problems()) != 0 {
		t.Errorf("did %q again, problems %q", did, p.Problems())
	}
}

// TestSpread: flows over a VXLAN device are spread where the underlay has
// several ways to a node.
func TestSpread(t *testing.T) {
	r := &routes{generation: 1, nodes: []netip.Addr{nodeA, nodeB}, ways: map[netip.Addr]int{nodeA: 1, nodeB: 1}}
	p := newPlane(&tunnels{}, nil, ours.DeviceIPIP, ours.DeviceVXLAN)
	p.Admit(t.Context(), r)
	if got := p.spread(r); got != nil {
		t.Errorf("%q with one way to each node", got)
	}
	r.ways[nodeB] = 2
	if got := p.spread(r); !slices.Equal(got, []string{ours.DeviceVXLAN}) {
		t.Errorf("%q with two ways to one", got)
	}
}

// TestEnsure: a device that was made anew is named, because its routes and
// entries went; one that cannot be made is a feature that is missing.
func TestEnsure(t *testing.T) {
	f, r := &tunnels{reset: []string{ours.DeviceVXLAN}}, &routes{generation: 1, nodes: []netip.Addr{nodeA}}
	p := newPlane(f, links{own4: 1500}, ours.DeviceIPIP, ours.DeviceVXLAN)
	if got := p.Ensure(t.Context()); !slices.Equal(got, []string{ours.DeviceVXLAN}) {
		t.Errorf("renewed %q", got)
	}
	for _, feature := range p.Features() {
		if !feature.Available {
			t.Errorf("%s is not there", feature.Name)
		}
	}
	p.Admit(t.Context(), r)
	f.take()
	f.reset = []string{ours.DeviceVXLAN}
	p.Ensure(t.Context())
	p.Admit(t.Context(), r)
	if len(f.take()) != 1 {
		t.Error("no entries on the new device")
	}
	f.lacks = map[string]error{ours.DeviceIPIP: tunnel.ErrUnsupported}
	p.Ensure(t.Context())
	for _, feature := range p.Features() {
		if feature.Available == (feature.Name == "ipip") {
			t.Errorf("%+v", feature)
		}
	}
	if len(p.Problems()) != 1 || !p.Loose() {
		t.Errorf("problems %q", p.Problems())
	}
}

// TestPodMTU: pods get what fits into the underlay and every tunnel, and the
// receiver learns of each change once.
func TestPodMTU(t *testing.T) {
	l := links{}
	p := newPlane(&tunnels{}, l, ours.DeviceIPIP, ours.DeviceVXLAN)
	moved := func() bool {
		select {
		case <-p.MTUMoved():
			return true
		default:
			return false
		}
	}
	p.Ensure(t.Context())
	if p.PodMTU() != 0 || moved() {
		t.Errorf("%d before any link is known", p.PodMTU())
	}
	l[own4] = 1500
	p.Ensure(t.Context())
	if want := 1500 - tunnel.Overhead(tunnel.VXLAN, own4); p.PodMTU() != want || !moved() {
		t.Errorf("%d, want %d", p.PodMTU(), want)
	}
	p.Ensure(t.Context())
	if moved() {
		t.Error("moved to what it was")
	}
	l[own4] = 0 // the address is on its way to another device
	p.Ensure(t.Context())
	if p.PodMTU() == 0 || moved() {
		t.Errorf("%d while the address moves", p.PodMTU())
	}
	plain := newPlane(&tunnels{}, links{own4: 9000})
	plain.Ensure(t.Context())
	if plain.PodMTU() != 9000 || plain.Loose() {
		t.Errorf("%d without a tunnel", plain.PodMTU())
	}
	p.wanted[0].MTU = 1300
	l[own4] = 1500
	p.Ensure(t.Context())
	if p.PodMTU() != 1300 {
		t.Errorf("%d, want what the file says", p.PodMTU())
	}
}
