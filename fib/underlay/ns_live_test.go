//go:debug multipathtcp=0

package underlay

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/rib"
)

// patience bounds every wait in these tests; user-mode Linux is slow.
const patience = 10 * time.Second

// enterNetns moves the test into a fresh network namespace. The thread is
// never unlocked, so it ends with the test's goroutine.
func enterNetns(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare network namespace (are we root?): %v", err)
	}
	ip(t, "link set lo up")
}

// ip runs the commands, one a line, through ip -batch in the thread's
// namespace.
func ip(t *testing.T, commands string) {
	t.Helper()
	if err := tryIP(commands); err != nil {
		t.Fatal(err)
	}
}

func tryIP(commands string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(commands, "\t", "") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip -batch: %w\n%s\n%s", err, out, commands)
	}
	return nil
}

// enterRack enters a fresh namespace with a rack and waits for the routes that
// IPv6 adds by itself, a moment after the carrier.
func enterRack(t *testing.T) {
	t.Helper()
	enterNetns(t)
	ip(t, rack)
	w := load(t)
	defer func() {
		if err := w.closeSockets(); err != nil {
			t.Error(err)
		}
	}()
	timeout := time.After(patience)
	for say(w.Reach(addr("fd57::12"))) != "on-link dev eth0" || say(w.Reach(addr("fd57::11"))) != "self" {
		select {
		case <-time.After(time.Millisecond):
		case <-timeout:
			t.Fatalf("no IPv6 on the rack: fd57::12 is %s", say(w.Reach(addr("fd57::12"))))
		}
		if err := w.listAll(); err != nil {
			t.Fatal(err)
		}
	}
}

// rack is the node's side of a network: eth0 on 10.57.0.0/24 and a far end
// that keeps its carrier up.
const rack = `link add eth0 type veth peer name far0
	link set far0 up
	link set eth0 addrgenmode none
	link set eth0 up
	addr add 10.57.0.11/24 dev eth0
	addr add fd57::11/64 dev eth0 nodad`

func isOurs(d Device) bool { return d.Alias == ours.TunnelAlias || d.Group == ours.PodServing }

// load returns a loaded Watcher, its sockets closed with the test.
func load(t *testing.T) *Watcher {
	t.Helper()
	w := New(slog.New(slog.DiscardHandler), isOurs)
	if err := w.Load(); err != nil {
		t.Fatalf("Load: %v", err)
	}
	return w
}

// run runs a loaded Watcher in this namespace until the test ends.
func run(t *testing.T, w *Watcher) {
	t.Helper()
	ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- w.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run did not end with its context")
		}
		if err := unix.Close(ns); err != nil {
			t.Error(err)
		}
	})
}

// await waits until the Watcher, by its own events, makes ok true, and returns
// all events until then.
func await(t *testing.T, w *Watcher, what string, ok func() bool) Events {
	t.Helper()
	return awaitEvents(t, w, what, func(Events) bool { return ok() })
}

// awaitEvents is await for a condition on the events alone; ok gets all so far.
func awaitEvents(t *testing.T, w *Watcher, what string, ok func(Events) bool) Events {
	t.Helper()
	var all Events
	timeout := time.After(patience)
	for {
		all.merge(w.Drain())
		if ok(all) {
			all.merge(w.Drain()) // those of the state that ok has seen
			return all
		}
		select {
		case <-w.Changed():
		case <-timeout:
			t.Fatalf("%s: not within %v; events %+v", what, patience, all)
		}
	}
}

// say spells a Reach as ip-route(8) would.
func say(r rib.Reach) string {
	var s strings.Builder
	s.WriteString(r.Kind.String())
	for h := range r.Hops.All() {
		if h.Via.IsValid() {
			s.WriteString(" via " + h.Via.String())
		}
		s.WriteString(" dev " + h.Dev)
		if h.Onlink {
			s.WriteString(" onlink")
		}
	}
	return s.String()
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }
