package nft

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/internal/ours"
)

// host is a network namespace with a thread of its own: do runs in it.
type host struct {
	t    testing.TB
	work chan func()
	fd   int // the namespace, for moving devices into it
}

// newHost makes a fresh network namespace. Its thread is never unlocked, so
// that the runtime ends it with the goroutine.
func newHost(t testing.TB) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	h := &host{t: t, work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			h.fd, err = unix.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		ready <- err
		for f := range h.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatalf("new network namespace: %v", err)
	}
	t.Cleanup(func() {
		close(h.work)
		if err := unix.Close(h.fd); err != nil {
			t.Error(err)
		}
	})
	h.do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	return h
}

// do runs f in the namespace and fails the test when it fails.
func (h *host) do(f func() error) {
	h.t.Helper()
	if err := h.try(f); err != nil {
		h.t.Fatal(err)
	}
}

// try runs f in the namespace.
func (h *host) try(f func() error) error {
	done := make(chan error)
	h.work <- func() { done <- f() }
	return <-done
}

// needNFTables skips the test where the kernel cannot hold the table.
func needNFTables(t *testing.T, h *host) {
	t.Helper()
	switch err := h.try(Supported); {
	case errors.Is(err, ErrUnsupported):
		t.Skip("needs kernel feature: nftables")
	case err != nil:
		t.Fatal(err)
	}
}

// wire connects two hosts with a veth pair that carries the given addresses.
func wire(a, b *host, name string, aAddrs, bAddrs []string) {
	a.t.Helper()
	a.do(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name,
			PeerNamespace: netlink.NsFd(b.fd),
		})
	})
	for h, list := range map[*host][]string{a: aAddrs, b: bAddrs} {
		h.do(func() error {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			for _, s := range list {
				addr, err := netlink.ParseAddr(s)
				if err != nil {
					return err
				}
				addr.Flags = unix.IFA_F_NODAD
				if err := netlink.AddrAdd(link, addr); err != nil {
					return fmt.Errorf("add %s to %s: %w", s, name, err)
				}
			}
			return netlink.LinkSetUp(link)
		})
	}
}

// isPods marks a device as a pod's.
func (h *host) isPods(device string) {
	h.t.Helper()
	h.do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		return netlink.LinkSetGroup(link, ours.PodGroup+2)
	})
}

// route adds a route through a gateway.
func (h *host) route(dst, via string) {
	h.t.Helper()
	h.do(func() error {
		_, to, err := net.ParseCIDR(dst)
		if err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: to, Gw: net.ParseIP(via)}); err != nil {
			return fmt.Errorf("route %s via %s: %w", dst, via, err)
		}
		return nil
	})
}

// forwards makes the host a router.
func (h *host) forwards() {
	h.t.Helper()
	h.do(func() error {
		for _, f := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+f, []byte("1"), 0o600); err != nil {
				return err
			}
		}
		return nil
	})
}
