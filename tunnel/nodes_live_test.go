package tunnel

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"onlink/internal/ours"
)

// vxlanBed is a bed with one VXLAN device, up.
func vxlanBed(t *testing.T, over netip.Addr) (*bed, Desired) {
	b := enter(t, "")
	name := ours.DeviceVXLAN
	if over.Is6() {
		name = ours.DeviceVXLAN6
	}
	d := Desired{Name: name, Kind: VXLAN, Local: over, UnderlayMTU: 1500, VNI: 4096, Port: 4789}
	b.ensure(d)
	return b, d
}

// entries renders what the kernel holds for the device, one line a node:
// address, Ethernet address, far end.
func (b *bed) entries(d Desired) []string {
	b.t.Helper()
	index := b.link(d.Name).Attrs().Index
	family := unix.AF_INET6
	if d.Local.Is4() {
		family = unix.AF_INET
	}
	ends := map[string][]string{}
	fdb, err := b.e.listEntries(index, unix.AF_BRIDGE)
	b.do(err)
	for _, n := range fdb {
		ends[n.HardwareAddr.String()] = append(ends[n.HardwareAddr.String()], n.IP.String())
	}
	neighs, err := b.e.listEntries(index, family)
	b.do(err)
	var out []string
	for _, n := range neighs {
		if n.State&unix.NUD_PERMANENT == 0 {
			continue
		}
		mac := n.HardwareAddr.String()
		out = append(out, fmt.Sprintf("%s %s %s", n.IP, mac, strings.Join(ends[mac], ",")))
		delete(ends, mac)
	}
	for mac, far := range ends {
		out = append(out, fmt.Sprintf("- %s %s", mac, strings.Join(far, ",")))
	}
	slices.Sort(out)
	return out
}

// wantEntries is entries of exactly these nodes.
func wantEntries(nodes ...netip.Addr) []string {
	var out []string
	for _, n := range nodes {
		out = append(out, fmt.Sprintf("%s %s %s", n, MAC(n), n))
	}
	slices.Sort(out)
	return out
}

func (b *bed) wantNodes(d Desired, nodes ...netip.Addr) {
	b.t.Helper()
	if diff := cmp.Diff(wantEntries(nodes...), b.entries(d)); diff != "" {
		b.t.Errorf("entries of %s (-want +got):\n%s", d.Name, diff)
	}
}

func TestNodes(t *testing.T) {
	other := map[bool]netip.Addr{true: netip.MustParseAddr("fd57:9::1"), false: netip.MustParseAddr("10.57.9.1")}
	for _, c := range []struct {
		name string
		over netip.Addr
		far  []netip.Addr
	}{
		{"IPv4", local4, []netip.Addr{netip.MustParseAddr("10.57.2.11"), netip.MustParseAddr("10.57.2.12"), netip.MustParseAddr("10.57.3.11")}},
		{"IPv6", local6, []netip.Addr{netip.MustParseAddr("fd57:2::11"), netip.MustParseAddr("fd57:2::12"), netip.MustParseAddr("fd57:3::11")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, d := vxlanBed(t, c.over)
			ctx := t.Context()
			b.do(b.e.AddNodes(ctx, d, append(c.far[:2:2], d.Local, other[c.over.Is4()])))
			b.wantNodes(d, c.far[:2]...)
			b.do(b.e.AddNodes(ctx, d, c.far[2:])) // adding removes nothing
			b.wantNodes(d, c.far...)
			b.do(b.e.KeepNodes(ctx, d, c.far[1:]))
			b.wantNodes(d, c.far[1:]...)

			// A run that knows nothing adopts what is there and removes the rest.
			next := New(b.e.log)
			b.e = next
			b.ensure(d)
			b.do(next.AddNodes(ctx, d, c.far[:2]))
			b.wantNodes(d, c.far...)
			b.do(next.KeepNodes(ctx, d, c.far[:2]))
			b.wantNodes(d, c.far[:2]...)
			next.Close()
		})
	}
}

// TestNodesRepaired takes entries away, bends them and adds strange ones: the
// next reading finds all of it.
func TestNodesRepaired(t *testing.T) {
	b, d := vxlanBed(t, local4)
	far := []netip.Addr{netip.MustParseAddr("10.57.2.11"), netip.MustParseAddr("10.57.2.12"), netip.MustParseAddr("10.57.2.13"), netip.MustParseAddr("10.57.2.14")}
	b.do(b.e.AddNodes(t.Context(), d, far))
	index := b.link(d.Name).Attrs().Index
	neigh, _ := entries(index, far[0])
	b.do(b.h.NeighDel(neigh))
	_, fdb := entries(index, far[1])
	b.do(b.h.NeighDel(fdb))
	bent, _ := entries(index, far[2])
	bent.HardwareAddr = MAC(far[3])
	b.do(b.h.NeighSet(bent))
	_, second := entries(index, far[3]) // a second far end: half of the packets
	second.IP = []byte{10, 57, 9, 9}
	b.do(b.h.NeighAppend(second))
	strange, strangeFDB := entries(index, netip.MustParseAddr("10.57.8.8"))
	b.do(b.h.NeighSet(strange))
	b.do(b.h.NeighSet(strangeFDB))

	b.do(b.e.AddNodes(t.Context(), d, far))
	if got := b.entries(d); cmp.Equal(got, wantEntries(far...)) {
		t.Fatal("read again at once: a reading costs, and 5,000 nodes make it cost much")
	}
	b.e.sets[d.Name].due = time.Now()
	b.do(b.e.AddNodes(t.Context(), d, far))
	b.do(b.e.KeepNodes(t.Context(), d, far))
	b.wantNodes(d, far...)
}

// TestNodesOfANewDevice: entries go with the device and when it goes down.
func TestNodesOfANewDevice(t *testing.T) {
	b, d := vxlanBed(t, local4)
	far := netip.MustParseAddr("10.57.2.11")
	b.do(b.e.AddNodes(t.Context(), d, []netip.Addr{far}))
	b.do(b.h.LinkSetDown(b.link(d.Name)))
	b.ensure(d)
	b.do(b.e.AddNodes(t.Context(), d, []netip.Addr{far}))
	b.wantNodes(d, far)
	b.do(b.h.LinkDel(b.link(d.Name)))
	b.ensure(d)
	b.do(b.e.AddNodes(t.Context(), d, []netip.Addr{far}))
	b.wantNodes(d, far)
	b.do(b.e.Remove(t.Context(), []string{d.Name}))
	b.do(b.e.AddNodes(t.Context(), d, []netip.Addr{far})) // no device, nothing to do
}

// TestBothFamilies: the two VXLAN devices of a dual-stack node are no rivals.
func TestBothFamilies(t *testing.T) {
	b, d := vxlanBed(t, local4)
	d6 := Desired{Name: ours.DeviceVXLAN6, Kind: VXLAN, Local: local6, UnderlayMTU: 1500, VNI: d.VNI, Port: d.Port}
	for range 2 {
		devices, err := b.e.Ensure(t.Context(), []Desired{d, d6})
		if err != nil || len(devices) != 2 {
			t.Fatalf("Ensure: %+v, %v", devices, err)
		}
	}
}
