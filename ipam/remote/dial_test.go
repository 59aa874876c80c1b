package remote

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestDialFrom: a node comes from the address that its blocks lead to, and from
// any where that is not one of its machine now.
func TestDialFrom(t *testing.T) {
	own, other, nobody := netip.MustParseAddr("10.57.0.11"), netip.MustParseAddr("10.57.0.12"), netip.MustParseAddr("10.57.0.99")
	port := listenAt(t, own, other)
	for _, c := range []struct {
		name string
		from netip.Addr
		to   netip.AddrPort
		want netip.Addr
	}{
		{"own address", own, netip.AddrPortFrom(other, port), own},
		{"another would be the kernel's choice", other, netip.AddrPortFrom(own, port), other},
		{"mapped target", own, netip.AddrPortFrom(netip.AddrFrom16(other.As16()), port), own},
		{"an address that is gone", nobody, netip.AddrPortFrom(own, port), own},
		{"none of the family", netip.Addr{}, netip.AddrPortFrom(own, port), own},
		{"to this machine", own, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), netip.MustParseAddr("127.0.0.1")},
	} { // no subtests: they would leave the namespace
		conn, err := DialFrom(c.from, netip.Addr{})(t.Context(), c.to.String())
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(); got != c.want {
			t.Errorf("%s: from %v, want %v", c.name, got, c.want)
		}
		conn.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	cancel()
	if _, err := DialFrom(own, netip.Addr{})(ctx, netip.AddrPortFrom(own, port).String()); err == nil {
		t.Error("connected though the caller gave up")
	}
	if _, err := DialFrom(own, own)(t.Context(), "no-such-target"); err == nil {
		t.Error("connected to a target without a port")
	}
}

// listenAt moves the test into a namespace of its own, on a machine with the
// addresses, and returns the port that it listens on there.
func listenAt(t *testing.T, addrs ...netip.Addr) uint16 {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare network namespace (are we root?): %v", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	return lis.Addr().(*net.TCPAddr).AddrPort().Port()
}
