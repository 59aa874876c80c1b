package pods

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"onlink/cni"
	"onlink/cni/pod"
	"onlink/fib"
	"onlink/ipam"
)

// during calls work with the allocator of a database, in one run of the agent.
func during(t *testing.T, path string, work func(*ipam.Allocator)) {
	t.Helper()
	store, err := ipam.OpenStore(path, ipam.StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	alloc, err := ipam.New(ipam.Config{
		Node: "n1", Address: ip("10.57.0.11"), Store: store, Registry: store.BoltRegistry().OwnNode(), BootID: BootID(), Log: slog.New(slog.DiscardHandler),
		Pools: []ipam.Pool{{Name: "main", CIDR: netip.MustParsePrefix("10.244.0.0/16"), BlockSize: 26}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- alloc.Run(ctx) }()
	work(alloc)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// isolate moves the test to a namespace without pods.
func isolate(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare network namespace (are we root?): %v", err)
	}
}

// assign gives a pod an address and returns its block.
func assign(t *testing.T, alloc *ipam.Allocator, netns string) netip.Prefix {
	t.Helper()
	at := cni.Attachment{ContainerID: "c1", IfName: "eth0", Namespace: "default", Pod: "web", Netns: netns}
	if _, err := (Addresses{Alloc: alloc}).Assign(t.Context(), at, cni.Ask{}); err != nil {
		t.Fatal(err)
	}
	return alloc.Blocks()[0].CIDR
}

// TestFsck: a database that is sound and disagrees with the kernel about a pod
// is told with that pod, and a repair does not remove what the agent may need;
// one that does not exist is an error.
func TestFsck(t *testing.T) {
	isolate(t)
	if _, _, err := Fsck(filepath.Join(t.TempDir(), "none.db"), 254, false); err == nil {
		t.Error("no database is no error")
	}
	path := filepath.Join(t.TempDir(), "onlink.db")
	during(t, path, func(*ipam.Allocator) {})
	if problems, _, err := Fsck(path, 254, false); err != nil || len(problems) > 0 {
		t.Errorf("empty: %q, %v", problems, err)
	}
	during(t, path, func(alloc *ipam.Allocator) { assign(t, alloc, "/nonexistent/netns") })
	for _, repair := range []bool{false, true, false} {
		problems, repaired, err := Fsck(path, 254, repair)
		if err != nil || len(problems) != 1 || !strings.HasPrefix(problems[0], "pod default/web (c1/eth0) has [10.244.") || !strings.HasSuffix(problems[0], "], but the pod is gone") {
			t.Errorf("repair %v: %q, %v", repair, problems, err)
		}
		if len(repaired) > 0 {
			t.Errorf("repaired %q of a sound database", repaired)
		}
	}
}

// TestDoubtBlocks: a block that the last run did not announce may belong to
// another node now; one that it announced, or one after a start that had no
// last run, is not in doubt.
func TestDoubtBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "onlink.db")
	other := netip.MustParsePrefix("10.9.0.0/26")
	var block netip.Prefix
	during(t, path, func(alloc *ipam.Allocator) {
		block = assign(t, alloc, "/run/netns/x")
		if doubted(alloc, block, other) {
			t.Error("in doubt though no run was before")
		}
	})
	for _, c := range []struct {
		name string
		left []netip.Prefix
		want bool
	}{
		{"nothing is left", nil, false},
		{"announced", []netip.Prefix{other, block}, false},
		{"another one announced", []netip.Prefix{other}, true},
	} {
		during(t, path, func(alloc *ipam.Allocator) {
			if got := doubted(alloc, block, c.left...); got != c.want {
				t.Errorf("%s: in doubt %v, want %v", c.name, got, c.want)
			}
		})
	}
}

// doubted reports whether DoubtBlocks names a block, after a run that left drop
// routes.
func doubted(alloc *ipam.Allocator, block netip.Prefix, left ...netip.Prefix) bool {
	var log bytes.Buffer
	var routes []fib.KernelRoute
	for _, p := range left {
		routes = append(routes, fib.KernelRoute{Prefix: p, Type: fib.Blackhole})
	}
	DoubtBlocks(alloc, routes, slog.New(slog.NewTextHandler(&log, nil)))
	return strings.Contains(log.String(), "block="+block.String())
}

// TestRecoverNothing: without pods nothing of the kernel is read, and the
// database stays as it is.
func TestRecoverNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "onlink.db")
	during(t, path, func(alloc *ipam.Allocator) {
		assign(t, alloc, "/run/netns/x")
		before := alloc.Assignments()
		for _, list := range [][]pod.Wired{nil, {wired("gone", true)}} {
			if refused, err := Recover(alloc, list, 254, slog.New(slog.DiscardHandler)); err != nil || len(refused) > 0 {
				t.Errorf("%v: refused %v, %v", list, refused, err)
			}
		}
		same := func(a, b ipam.Assignment) bool { return a.Handle == b.Handle && slices.Equal(a.Addresses, b.Addresses) }
		if after := alloc.Assignments(); !slices.EqualFunc(before, after, same) {
			t.Errorf("%v, before %v", after, before)
		}
	})
}
