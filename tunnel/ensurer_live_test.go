//go:debug multipathtcp=0

package tunnel

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/internal/ours"
)

var (
	local4 = netip.MustParseAddr("10.57.0.11")
	local6 = netip.MustParseAddr("fd57::11")
)

// shapes are the devices every test is run with.
var shapes = []struct {
	name    string
	feature string // of the kernel; "" if every kernel has it
	d       Desired
	mtu     int
	other   netip.Addr // another local address
}{
	{"ipip", "ipip", Desired{Name: ours.DeviceIPIP, Kind: IPIP, Local: local4, UnderlayMTU: 1500}, 1480, netip.MustParseAddr("10.57.0.12")},
	{"ip6tnl", "ip6tnl", Desired{Name: ours.DeviceIP6, Kind: IP6, Local: local6, UnderlayMTU: 1500}, 1460, netip.MustParseAddr("fd57::12")},
	{"vxlan", "", Desired{Name: ours.DeviceVXLAN, Kind: VXLAN, Local: local4, UnderlayMTU: 1500, VNI: 4096, Port: 4789}, 1450, netip.MustParseAddr("10.57.0.12")},
	{"vxlan6", "", Desired{Name: ours.DeviceVXLAN, Kind: VXLAN, Local: local6, UnderlayMTU: 1500, VNI: 7, Port: 8472}, 1430, netip.MustParseAddr("fd57::12")},
}

// bed is one test's network namespace.
type bed struct {
	t *testing.T
	e *Ensurer
	h *netlink.Handle
}

// enter makes a bed in a fresh network namespace, whose thread is never
// unlocked and ends with the test.
func enter(t *testing.T, feature string) *bed {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare network namespace (are we root?): %v", err)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t, New(slog.New(slog.DiscardHandler)), h}
	t.Cleanup(func() { b.e.Close(); h.Close() })
	if feature != "" && !b.has(feature) {
		t.Skip("needs kernel feature: " + feature)
	}
	return b
}

// has reports whether the kernel can make devices of a kind.
func (b *bed) has(kind string) bool {
	var l netlink.Link
	attrs := netlink.LinkAttrs{Name: "probe0"}
	switch kind {
	case "ipip":
		l = &netlink.Iptun{LinkAttrs: attrs, Local: net.IPv4(192, 0, 2, 1)}
	default:
		l = &netlink.Ip6tnl{LinkAttrs: attrs, Local: net.ParseIP("2001:db8::1")}
	}
	err := b.h.LinkAdd(l)
	if err == nil {
		b.do(b.h.LinkDel(l))
	}
	return !errors.Is(err, unix.EOPNOTSUPP)
}

func (b *bed) do(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// ensure runs Ensure for one device that must succeed.
func (b *bed) ensure(d Desired) Device {
	b.t.Helper()
	devices, err := b.e.Ensure(b.t.Context(), []Desired{d})
	if err != nil || len(devices) != 1 {
		b.t.Fatalf("Ensure: %+v, %v", devices, err)
	}
	return devices[0]
}

// link returns the kernel's device.
func (b *bed) link(name string) netlink.Link {
	b.t.Helper()
	l, err := b.h.LinkByName(name)
	if err != nil {
		b.t.Fatalf("device %s: %v", name, err)
	}
	return l
}

// look is what the tests compare of a device.
type look struct {
	Kind, Alias, Differs string
	MTU                  int
	Up                   bool
	RPFilter             string
	Addrs                string // with scope
}

func (b *bed) look(d Desired) look {
	b.t.Helper()
	l := b.link(d.Name)
	rp, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + d.Name + "/rp_filter")
	b.do(err)
	addrs, err := b.h.AddrList(l, netlink.FAMILY_ALL)
	b.do(err)
	var text []string
	for _, a := range addrs {
		text = append(text, fmt.Sprintf("%s scope %d", a.IPNet, a.Scope))
	}
	return look{
		l.Type(), l.Attrs().Alias, d.differs(l), l.Attrs().MTU,
		l.Attrs().Flags&net.FlagUp != 0, strings.TrimSpace(string(rp)), strings.Join(text, " "),
	}
}

// TestEnsure: a device comes into being, stays, and is repaired whatever is
// done to it.
func TestEnsure(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(b *bed, d *Desired) // after the first Ensure
		reset bool
		mtu   int // lower than usual by
	}{
		{name: "nothing done", spoil: func(*bed, *Desired) {}},
		{name: "downed", reset: true, spoil: func(b *bed, d *Desired) { b.do(b.h.LinkSetDown(b.link(d.Name))) }},
		{name: "deleted", reset: true, spoil: func(b *bed, d *Desired) { b.do(b.h.LinkDel(b.link(d.Name))) }},
		{name: "renamed", reset: true, spoil: func(b *bed, d *Desired) {
			l := b.link(d.Name)
			b.do(b.h.LinkSetDown(l))
			b.do(b.h.LinkSetName(l, "other0"))
		}},
		{name: "mtu changed by hand", spoil: func(b *bed, d *Desired) { b.do(b.h.LinkSetMTU(b.link(d.Name), 1300)) }},
		{name: "address added by hand", spoil: func(b *bed, d *Desired) {
			a, err := netlink.ParseAddr("192.0.2.9/24")
			b.do(err)
			b.do(b.h.AddrAdd(b.link(d.Name), a))
		}},
		{name: "address of the node, as former versions had it", spoil: func(b *bed, d *Desired) {
			own, err := netlink.ParseAddr("10.57.0.11/32")
			b.do(err)
			own.Scope = unix.RT_SCOPE_HOST
			b.do(b.h.AddrAdd(b.link(d.Name), own))
			have, err := b.h.AddrList(b.link(d.Name), netlink.FAMILY_V4)
			b.do(err)
			b.do(b.h.AddrDel(b.link(d.Name), &have[0]))
		}},
		{name: "address removed by hand", reset: true, spoil: func(b *bed, d *Desired) {
			have, err := b.h.AddrList(b.link(d.Name), netlink.FAMILY_V4)
			b.do(err)
			for _, a := range have {
				b.do(b.h.AddrDel(b.link(d.Name), &a))
			}
		}},
		{name: "underlay mtu changed", mtu: 100, spoil: func(_ *bed, d *Desired) { d.UnderlayMTU -= 100 }},
		{name: "mtu configured", mtu: 80, spoil: func(_ *bed, d *Desired) { d.MTU = d.mtu() - 80 }},
		{name: "killed before marking", reset: true, spoil: func(b *bed, d *Desired) {
			b.do(b.h.LinkDel(b.link(d.Name)))
			b.do(b.h.LinkAdd(d.template()))
		}},
	}
	for _, shape := range shapes {
		for _, tt := range tests {
			t.Run(shape.name+"/"+tt.name, func(t *testing.T) {
				b := enter(t, shape.feature)
				d := shape.d
				want := look{Kind: d.Kind.String(), Alias: ours.TunnelAlias, MTU: shape.mtu, Up: true, RPFilter: "2", Addrs: "192.0.0.8/32 scope 254"}
				first := b.ensure(d)
				if diff := cmp.Diff(want, b.look(d)); diff != "" || !first.Reset || first.MTU != shape.mtu {
					t.Fatalf("first Ensure: %+v, device -want +got\n%s", first, diff)
				}
				tt.spoil(b, &d)
				want.MTU -= tt.mtu
				second := b.ensure(d)
				if diff := cmp.Diff(want, b.look(d)); diff != "" {
					t.Errorf("repaired device: -want +got\n%s", diff)
				}
				wantDev := Device{Name: d.Name, Index: b.link(d.Name).Attrs().Index, MTU: want.MTU, Reset: tt.reset}
				if diff := cmp.Diff(wantDev, second); diff != "" {
					t.Errorf("answer: -want +got\n%s", diff)
				}
			})
		}
	}
}

// TestEnsureMovedLocal: a new node address makes a new device.
func TestEnsureMovedLocal(t *testing.T) {
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			b := enter(t, shape.feature)
			b.ensure(shape.d)
			d := shape.d
			d.Local = shape.other
			if dev := b.ensure(d); !dev.Reset {
				t.Errorf("the device was made anew, so its routes are gone: %+v", dev)
			}
			if got := b.look(d); got.Differs != "" {
				t.Errorf("device still differs in %s", got.Differs)
			}
		})
	}
}

// TestForeign: a device of somebody else is named and left alone, and the
// others are made all the same.
func TestForeign(t *testing.T) {
	b := enter(t, "")
	b.do(b.h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: ours.DeviceIPIP}}))
	before := b.link(ours.DeviceIPIP).Attrs().Index
	vxlan := shapes[2].d
	devices, err := b.e.Ensure(t.Context(), []Desired{shapes[0].d, vxlan})
	if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), ours.DeviceIPIP) {
		t.Errorf("Ensure: %v, want ErrForeign naming the device", err)
	}
	if len(devices) != 1 || devices[0].Name != vxlan.Name {
		t.Errorf("the other device was not made: %+v", devices)
	}
	if err := b.e.Remove(t.Context(), []string{ours.DeviceIPIP}); !errors.Is(err, ErrForeign) {
		t.Errorf("Remove: %v, want ErrForeign", err)
	}
	if l := b.link(ours.DeviceIPIP); l.Attrs().Index != before || l.Type() != "bridge" {
		t.Errorf("the foreign device was touched: %+v", l)
	}
}

// TestConflict: the same local address on somebody else's device.
func TestConflict(t *testing.T) {
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			b := enter(t, shape.feature)
			rival := shape.d
			rival.Name = "other0"
			b.do(b.h.LinkAdd(rival.template()))
			_, err := b.e.Ensure(t.Context(), []Desired{shape.d})
			if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "other0") {
				t.Errorf("Ensure: %v, want ErrConflict naming other0", err)
			}
			b.link("other0")
		})
	}
}

// TestFallbackDevice: the module's own tunl0 or ip6tnl0 is no rival.
func TestFallbackDevice(t *testing.T) {
	b := enter(t, "ipip")
	b.ensure(shapes[0].d)
	if _, err := b.h.LinkByName("tunl0"); err != nil {
		t.Skip("needs kernel feature: tunl0")
	}
	if dev := b.ensure(shapes[0].d); dev.Reset {
		t.Errorf("second Ensure made the device anew: %+v", dev)
	}
}

// TestUnsupported: the kernel's refusal of a kind it does not have is named,
// with the fix.
func TestUnsupported(t *testing.T) {
	b := enter(t, "")
	refusal := b.h.LinkAdd(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: "none0"}, LinkType: "onlinknone"})
	if refusal == nil {
		t.Fatal("the kernel made a device of a kind that does not exist")
	}
	err := shapes[0].d.createError(refusal)
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "modprobe ipip") {
		t.Errorf("%v: %v, want ErrUnsupported and modprobe ipip", refusal, err)
	}
	if b.has("ipip") {
		return
	}
	_, err = b.e.Ensure(t.Context(), []Desired{shapes[0].d})
	if !errors.Is(err, ErrUnsupported) {
		t.Errorf("Ensure: %v, want ErrUnsupported", err)
	}
}

// TestRemove: ours goes, absence is no error.
func TestRemove(t *testing.T) {
	b := enter(t, "")
	d := shapes[2].d
	b.ensure(d)
	for range 2 {
		if err := b.e.Remove(t.Context(), []string{d.Name, ours.DeviceIPIP}); err != nil {
			t.Errorf("Remove: %v", err)
		}
		if _, err := b.h.LinkByName(d.Name); !errors.As(err, &netlink.LinkNotFoundError{}) {
			t.Errorf("device after Remove: %v", err)
		}
	}
}
