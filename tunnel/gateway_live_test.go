package tunnel

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestGateways: a node is a gateway over an IPv6 tunnel although the kernel
// knows another way to it, its connected network or a gateway's route.
func TestGateways(t *testing.T) {
	for _, s := range shapes {
		if s.d.Local.Is4() {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			b := enter(t, s.feature)
			b.do(b.h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "far"}))
			for _, dev := range []string{"eth0", "far"} {
				b.do(b.h.LinkSetUp(b.link(dev)))
			}
			eth0 := b.link("eth0")
			b.do(b.h.AddrAdd(eth0, &netlink.Addr{IPNet: ipNet("fd57::11/64"), Flags: unix.IFA_F_NODAD}))
			b.do(b.h.RouteAdd(&netlink.Route{Dst: ipNet("fd57:2::/64"), Gw: net.ParseIP("fd57::1"), LinkIndex: eth0.Attrs().Index}))
			b.ensure(s.d)
			route := func(dst, via string) error {
				return b.h.RouteReplace(&netlink.Route{Dst: ipNet(dst), Gw: net.ParseIP(via), LinkIndex: b.link(s.d.Name).Attrs().Index})
			}
			b.do(route("fd44:1::/64", "fd57::12"))
			b.do(route("fd44:2::/64", "fd57:2::11"))

			rules := func() int {
				list, err := gatewayRules(b.e.handle, s.d.Name)
				b.do(err)
				return len(list)
			}
			b.ensure(s.d) // again: nothing is doubled
			if n := rules(); n != 1 {
				t.Errorf("%d rules, want 1", n)
			}
			b.do(b.h.RuleDel(gatewayRule(s.d.Name)))
			b.ensure(s.d)
			b.do(route("fd44:3::/64", "fd57:2::11"))

			way, err := b.h.RouteGet(net.ParseIP("fd57:2::11"))
			b.do(err)
			if way[0].LinkIndex != eth0.Attrs().Index {
				t.Errorf("outer packets leave over device %d, want eth0", way[0].LinkIndex)
			}
			b.do(b.e.Remove(t.Context(), []string{s.d.Name}))
			if n := rules(); n != 0 {
				t.Errorf("%d rules are left", n)
			}
			b.do(b.h.RuleAdd(gatewayRule(s.d.Name))) // of a run that was killed after it removed the device
			b.do(b.e.Remove(t.Context(), []string{s.d.Name}))
			if n := rules(); n != 0 {
				t.Errorf("%d rules of a device that is gone are left", n)
			}
		})
	}
}

// TestResetIsToldLate: a device was made, but no gateway can be behind it as
// long as it has no IPv6. Once it has, its routes must be installed.
func TestResetIsToldLate(t *testing.T) {
	for _, s := range shapes {
		if s.d.Local.Is4() {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			b := enter(t, s.feature)
			b.do(os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0o644))
			if devices, err := b.e.Ensure(t.Context(), []Desired{s.d}); err == nil || len(devices) > 0 {
				t.Fatalf("Ensure without IPv6: %+v, %v", devices, err)
			}
			b.do(os.WriteFile("/proc/sys/net/ipv6/conf/"+s.d.Name+"/disable_ipv6", []byte("0"), 0o644))
			if dev := b.ensure(s.d); !dev.Reset {
				t.Errorf("Ensure with IPv6: %+v, want Reset", dev)
			}
			if dev := b.ensure(s.d); dev.Reset {
				t.Errorf("Ensure again: %+v, want no Reset", dev)
			}
		})
	}
}

// TestEnsureBesideAHand: somebody sets the device down again and again while
// Ensure works on it, which is no error, only more work.
func TestEnsureBesideAHand(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			b := enter(t, s.feature)
			b.ensure(s.d)
			hand, err := netlink.NewHandle(unix.NETLINK_ROUTE)
			b.do(err)
			defer hand.Close()
			link := b.link(s.d.Name)
			stop, stopped := make(chan struct{}), make(chan error, 1)
			go func() {
				for {
					select {
					case <-stop:
						stopped <- nil
						return
					default:
					}
					if err := hand.LinkSetDown(link); err != nil {
						stopped <- err
						return
					}
				}
			}()
			resets := 0
			for range 300 {
				devices, err := b.e.Ensure(t.Context(), []Desired{s.d})
				if err != nil && !errors.Is(err, unix.ENETDOWN) {
					t.Fatal(err)
				}
				if len(devices) > 0 && devices[0].Reset {
					resets++
				}
			}
			close(stop)
			b.do(<-stopped)
			if resets == 0 {
				t.Error("the device was never seen down")
			}
			if b.ensure(s.d); b.link(s.d.Name).Attrs().Flags&net.FlagUp == 0 {
				t.Error("the device is down")
			}
		})
	}
}

func ipNet(s string) *net.IPNet {
	p := netip.MustParsePrefix(s)
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
