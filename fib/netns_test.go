package fib

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// freshNetns moves the test into a network namespace of its own. The thread
// is never unlocked, so it dies with the test's goroutine.
func freshNetns(tb testing.TB) {
	tb.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		tb.Fatalf("unshare a network namespace (are we root?): %v", err)
	}
	ip(tb, "link set lo up")
}

// here runs a subtest in the network namespace of its parent; a plain t.Run
// starts on a thread of the machine's own namespace.
func here(t *testing.T, name string, run func(t *testing.T)) {
	t.Helper()
	ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Run(name, func(t *testing.T) {
		runtime.LockOSThread()
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			t.Fatal(err)
		}
		run(t)
	})
	if err := unix.Close(ns); err != nil {
		t.Error(err)
	}
}

// ip runs ip(8) in the namespace of the calling thread.
func ip(tb testing.TB, line string) string {
	tb.Helper()
	out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput()
	if err != nil {
		tb.Fatalf("ip %s: %v\n%s", line, err, out)
	}
	return string(out)
}

// wire makes a veth pair with both ends up in this namespace.
func wire(tb testing.TB, name string) {
	tb.Helper()
	ip(tb, fmt.Sprintf("link add %s type veth peer name %s-p", name, name))
	ip(tb, fmt.Sprintf("link set %s-p up", name))
	ip(tb, fmt.Sprintf("link set %s up", name))
}

// openTable returns an open table.
func openTable(tb testing.TB, cfg Config) *Table {
	tb.Helper()
	t := New(cfg)
	if err := t.Open(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := t.Close(); err != nil {
			tb.Error(err)
		}
	})
	return t
}

func mustApply(tb testing.TB, t *Table) {
	tb.Helper()
	if err := t.Apply(context.Background()); err != nil {
		tb.Fatal(err)
	}
}

func mustResync(tb testing.TB, t *Table) Stats {
	tb.Helper()
	s, err := t.Resync(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// bothWays runs a test with nexthop objects and with plain gateways.
func bothWays(t *testing.T, run func(t *testing.T, cfg Config)) {
	t.Helper()
	for _, c := range []struct {
		name  string
		plain bool
	}{{"objects", false}, {"plain", true}} {
		t.Run(c.name, func(t *testing.T) {
			freshNetns(t)
			wire(t, "va")
			wire(t, "vb")
			run(t, Config{NoNexthopObjects: c.plain})
		})
	}
}

// carrier waits until the device has a carrier: its peer was moved.
func carrier(tb testing.TB, dev string) {
	tb.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if strings.Contains(ip(tb, "link show "+dev), "LOWER_UP") {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%s gets no carrier", dev)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
