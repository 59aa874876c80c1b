package pods

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"

	"onlink/cni/pod"
	"onlink/fib"
	"onlink/ipam"
)

// BootID identifies this boot of the machine (random(4)); empty when the
// kernel does not provide it.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Recover makes the database agree with the pods that run: after it was
// lost, damaged or replaced by an older backup their addresses would be given
// out a second time, or their routes removed. Where the two agree it costs one
// list of interfaces and one of neighbours. It returns why pods were left out.
// Table is the kernel's table of pod routes.
func Recover(alloc *ipam.Allocator, wired []pod.Wired, table uint32, log *slog.Logger) (refused []error, err error) {
	wired = slices.DeleteFunc(slices.Clone(wired), func(w pod.Wired) bool { return w.Ended })
	if len(wired) == 0 {
		return nil, nil
	}
	near, err := pod.ListNeighbours()
	if err != nil {
		return nil, fmt.Errorf("recover pods: %w", err)
	}
	if databaseAgrees(alloc, wired, near) {
		return nil, nil
	}
	pods, err := runningPods(wired, near, table)
	if err != nil {
		return nil, fmt.Errorf("recover pods: %w", err)
	}
	got, err := alloc.Recover(pods)
	if err != nil {
		return nil, err
	}
	for _, as := range got.Displaced {
		log.Warn("an older database assigns addresses of running pods to another pod", "namespace", as.Namespace, "pod", as.Pod, "container", as.ContainerID, "addresses", as.Addresses)
	}
	for _, as := range got.Entered {
		log.Warn("recovered a running pod that the database lacked", "namespace", as.Namespace, "pod", as.Pod, "addresses", as.Addresses)
	}
	for _, q := range got.Kept { // status and check name them while they last
		log.Warn("problem found", "problem", q.String())
	}
	return got.Refused, nil
}

// databaseAgrees reports whether the database has for every running pod the
// addresses in the neighbour entries of its host end.
func databaseAgrees(alloc *ipam.Allocator, wired []pod.Wired, near map[int][]netip.Addr) bool {
	for _, w := range wired {
		as, known := alloc.Lookup(Handle(w.Attachment))
		if !known || !slices.Equal(as.Addresses, near[w.Index]) {
			return false
		}
	}
	return true
}

// runningPods gives every wired pod the addresses that the kernel routes to it,
// first those with a neighbour entry, which ADD made. A pod without routes has
// those on its own interface that are routed to no other.
func runningPods(wired []pod.Wired, near map[int][]netip.Addr, table uint32) ([]ipam.Running, error) {
	evidence, err := pod.ListRouted(table)
	if err != nil {
		return nil, err
	}
	out := make([]ipam.Running, len(wired))
	taken := map[netip.Addr]bool{}
	for i, w := range wired {
		routed := evidence.Routed[w.Index]
		for _, addr := range routed {
			taken[addr] = true
		}
		slices.SortStableFunc(routed, func(x, y netip.Addr) int {
			return slices.Index(near[w.Index], y) - slices.Index(near[w.Index], x) // -1 is last
		})
		out[i] = ipam.Running{
			Assignment: ipam.Assignment{
				Handle: Handle(w.Attachment), Addresses: routed, Netns: w.Netns,
				Namespace: w.Namespace, Pod: w.Pod, HostDevice: w.HostDevice,
			},
			DropRoutes: evidence.Drops,
		}
	}
	for i, w := range wired {
		if len(out[i].Addresses) > 0 {
			continue
		}
		own, err := w.OwnAddresses()
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it may just have ended
			return nil, err
		}
		out[i].Addresses = slices.DeleteFunc(own, func(addr netip.Addr) bool { return taken[addr] })
	}
	return out, nil
}

// DoubtBlocks compares the blocks in the database with the drop routes that the
// last run left, which had one for every block that was this node's.
func DoubtBlocks(alloc *ipam.Allocator, left []fib.KernelRoute, log *slog.Logger) {
	if !alloc.SameBoot() || len(left) == 0 {
		return // there was no last run, or its routes were removed
	}
	var drops []netip.Prefix
	for _, r := range left {
		if r.Type == fib.Blackhole {
			drops = append(drops, r.Prefix)
		}
	}
	for _, b := range alloc.DoubtBlocks(drops) {
		log.Warn("the last run did not announce a block of the database: it waits for the registry to confirm it", "block", b)
	}
}
