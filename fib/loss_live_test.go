package fib

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onlink/rib"
)

// peerNetns makes a network namespace on a thread of its own and returns a
// function that runs others on that thread, and the namespace's descriptor.
func peerNetns(t *testing.T) (do func(func()), ns int) {
	t.Helper()
	work := make(chan func()) // closed by the clean-up; the thread ends with it
	ready := make(chan int)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ready <- -1
			return
		}
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			fd = -1
		}
		ready <- fd
		for f := range work {
			f()
		}
	}()
	ns = <-ready
	if ns < 0 {
		t.Fatal("no second network namespace")
	}
	t.Cleanup(func() {
		close(work)
		if err := unix.Close(ns); err != nil {
			t.Error(err)
		}
	})
	return func(f func()) {
		done := make(chan struct{})
		work <- func() { defer close(done); f() }
		<-done
	}, ns
}

// TestMoveLosesNothing moves a route between two devices under traffic.
func TestMoveLosesNothing(t *testing.T) {
	bothWays(t, func(t *testing.T, cfg Config) {
		do, ns := peerNetns(t)
		nets := map[string]string{"va": "192.0.2", "vb": "198.51.100"}
		for dev, net := range nets {
			ip(t, fmt.Sprintf("addr add %s.1/24 dev %s", net, dev))
			ip(t, fmt.Sprintf("link set %s-p netns /proc/%d/fd/%d", dev, os.Getpid(), ns))
		}
		var conn *net.UDPConn
		do(func() {
			ip(t, "link set lo up")
			ip(t, "addr add 10.9.0.1/32 dev lo")
			for dev, net := range nets {
				ip(t, fmt.Sprintf("link set %s-p up", dev))
				ip(t, fmt.Sprintf("addr add %s.2/24 dev %s-p", net, dev))
			}
			var err error
			if conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 9, 0, 1), Port: 9}); err != nil {
				t.Error(err)
			}
		})
		if conn == nil {
			t.FailNow()
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetReadBuffer(4 << 20); err != nil {
			t.Fatal(err)
		}
		carrier(t, "va")
		carrier(t, "vb")

		tab := openTable(t, cfg)
		set := func(dev string) {
			via := netip.MustParseAddr(nets[dev] + ".2")
			tab.Set(rib.Route{Prefix: pfx("10.9.0.0/24"), Kind: rib.Unicast, Hops: rib.MakeHops(rib.Hop{Via: via, Dev: dev})})
			mustApply(t, tab)
		}
		set("va")
		out, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1)}, &net.UDPAddr{IP: net.IPv4(10, 9, 0, 1), Port: 9})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = out.Close() }()
		sent := 0
		for i := range 200 {
			set([]string{"va", "vb"}[i%2])
			for range 5 {
				if _, err := out.Write([]byte("x")); err != nil {
					t.Fatalf("packet %d after %d moves: %v", sent, i, err)
				}
				sent++
			}
		}
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 16)
		for got := range sent {
			if _, err := conn.Read(buf); err != nil {
				t.Fatalf("%d of %d packets arrived: %v", got, sent, err)
			}
		}
		if s := tab.Stats(); tab.UsesNexthopObjects() && s.Moved != 199 {
			t.Errorf("moved in place %d times, want 199", s.Moved)
		}
	})
}
