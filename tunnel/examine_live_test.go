package tunnel

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestExamine: a device and its entries as they should be have no difference, and
// each change of them by hand is named.
func TestExamine(t *testing.T) {
	far, other := netip.MustParseAddr("10.57.2.11"), netip.MustParseAddr("10.57.2.12")
	for _, c := range []struct {
		name            string
		change          func(b *bed, d Desired)
		device, entries string // a part of the one difference
	}{
		{name: "as it should be", change: func(*bed, Desired) {}},
		{"MTU", func(b *bed, d Desired) { b.do(b.h.LinkSetMTU(b.link(d.Name), 1300)) }, "its MTU is 1300, want 1450", ""},
		{"alias", func(b *bed, d Desired) { b.do(b.h.LinkSetAlias(b.link(d.Name), "mine")) }, `it is not onlink's (its alias is "mine")`, ""},
		{"MAC address", func(b *bed, d Desired) { b.do(b.h.LinkSetHardwareAddr(b.link(d.Name), MAC(other))) }, "its address differs (local 10.57.0.11, VNI 4096, UDP port 4789), want vxlan, local 10.57.0.11", "is missing"},
		{"address", func(b *bed, d Desired) {
			list, err := b.h.AddrList(b.link(d.Name), unix.AF_INET)
			b.do(err)
			b.do(b.h.AddrDel(b.link(d.Name), &list[0]))
		}, "it lacks the address 192.0.0.8", "is missing"},
		{"gone", func(b *bed, d Desired) { b.do(b.h.LinkDel(b.link(d.Name))) }, "there is no such device", ""},
		{"neighbour gone", func(b *bed, d Desired) {
			neigh, _ := entries(b.link(d.Name).Attrs().Index, far)
			b.do(b.h.NeighDel(neigh))
		}, "", "the neighbour entry of 10.57.2.11 is missing"},
		{"neighbour bent", func(b *bed, d Desired) {
			neigh, _ := entries(b.link(d.Name).Attrs().Index, far)
			neigh.HardwareAddr = MAC(other)
			b.do(b.h.NeighSet(neigh))
		}, "", "has the MAC address " + MAC(other).String() + ", want " + MAC(far).String()},
		{"neighbour not permanent", func(b *bed, d Desired) {
			neigh, _ := entries(b.link(d.Name).Attrs().Index, far)
			neigh.State = unix.NUD_REACHABLE
			b.do(b.h.NeighSet(neigh))
		}, "", "is not permanent"},
		{"forwarding entry gone", func(b *bed, d Desired) {
			_, fdb := entries(b.link(d.Name).Attrs().Index, far)
			b.do(b.h.NeighDel(fdb))
		}, "", "leads to nowhere (no entry), want 10.57.2.11"},
		{"another far end", func(b *bed, d Desired) {
			_, fdb := entries(b.link(d.Name).Attrs().Index, far)
			fdb.IP = []byte{10, 57, 9, 9}
			b.do(b.h.NeighSet(fdb))
		}, "", "leads to 10.57.9.9, want 10.57.2.11"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, d := vxlanBed(t, local4)
			b.do(b.e.AddNodes(t.Context(), d, []netip.Addr{far}))
			c.change(b, d)
			s, err := Examine(d, far)
			if err != nil {
				t.Fatal(err)
			}
			one := func(what string, got []string, want string) {
				t.Helper()
				if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || !strings.Contains(got[0], want)) {
					t.Errorf("%s: %q, want %q", what, got, want)
				}
			}
			one("device", s.Device, c.device)
			one("entries", s.Entries, c.entries)
		})
	}
}
