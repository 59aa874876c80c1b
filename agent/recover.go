package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"onlink/agent/config"
	"onlink/cni"
	"onlink/fib"
	"onlink/ipam"
)

// bootID identifies this boot of the machine (random(4)); empty when the
// kernel does not tell.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// recoverPods makes the database agree with the pods that run: after it was
// lost, damaged or replaced by an older backup their addresses would be given
// out a second time, or their routes removed. Where the two agree it costs one
// list of interfaces and one of neighbours.
func (a *agent) recoverPods(wired []cni.Wired) error {
	wired = slices.DeleteFunc(slices.Clone(wired), func(w cni.Wired) bool { return w.Ended })
	if len(wired) == 0 {
		return nil
	}
	near, err := cni.ListNeighbours()
	if err != nil {
		return fmt.Errorf("recover pods: %w", err)
	}
	if a.databaseAgrees(wired, near) {
		return nil
	}
	pods, err := runningPods(wired, near, a.current().FIB.Table)
	if err != nil {
		return fmt.Errorf("recover pods: %w", err)
	}
	got, err := a.alloc.Recover(pods)
	if err != nil {
		return err
	}
	for _, as := range got.Displaced {
		a.log.Warn("an older database gave addresses of running pods to a pod that does not have them", "namespace", as.Namespace, "pod", as.Pod, "container", as.ContainerID, "addresses", as.Addresses)
	}
	for _, as := range got.Entered {
		a.log.Warn("recovered a running pod that the database did not know", "namespace", as.Namespace, "pod", as.Pod, "addresses", as.Addresses)
	}
	for _, q := range got.Kept { // status and check name them while they last
		a.log.Warn("problem found", "problem", q.String())
	}
	for _, err := range got.Refused {
		a.problem("%v", err)
	}
	return nil
}

// databaseAgrees reports whether every running pod has in the database what the
// neighbour entries of its host end say.
func (a *agent) databaseAgrees(wired []cni.Wired, near map[int][]netip.Addr) bool {
	for _, w := range wired {
		as, known := a.alloc.Lookup(handle(w.Attachment))
		if !known || !slices.Equal(as.Addresses, near[w.Index]) {
			return false
		}
	}
	return true
}

// runningPods gives every wired pod the addresses that the kernel routes to it,
// first those with a neighbour entry, which ADD made. A pod without routes has
// those on its own interface that are routed to no other.
func runningPods(wired []cni.Wired, near map[int][]netip.Addr, table uint32) ([]ipam.Running, error) {
	evidence, err := cni.ListRouted(table)
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
				Handle: handle(w.Attachment), Addresses: routed, Netns: w.Netns,
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

// doubtBlocks compares the blocks in the database with the drop routes that the
// last run left, which had one for every block that was this node's.
func (a *agent) doubtBlocks(left []fib.KernelRoute) {
	if !a.alloc.SameBoot() || len(left) == 0 {
		return // there was no last run, or somebody has removed what it left
	}
	var drops []netip.Prefix
	for _, r := range left {
		if r.Type == fib.Blackhole {
			drops = append(drops, r.Prefix)
		}
	}
	for _, b := range a.alloc.DoubtBlocks(drops) {
		a.log.Warn("the last run did not announce a block that the database has: it waits for the registry's word", "block", b)
	}
}

// endQuarantines gives quarantined addresses back whose pods have ended.
func (a *agent) endQuarantines() error {
	kept := a.alloc.Quarantined()
	if len(kept) == 0 {
		return nil
	}
	wired, err := cni.ListWired()
	if err != nil {
		return err
	}
	for _, q := range kept {
		if slices.ContainsFunc(wired, func(w cni.Wired) bool { return handle(w.Attachment) == q.Handle && !w.Ended }) {
			continue
		}
		a.alloc.EndQuarantine(q.Handle)
		if _, owned := a.alloc.ByAddress(q.Address); !owned {
			a.learn.pods.DeletePod(netip.PrefixFrom(q.Address, q.Address.BitLen()))
		}
		a.log.Info("a pod whose address was kept out of use has ended", "namespace", q.Namespace, "pod", q.Pod, "address", q.Address)
	}
	return nil
}

// storeOptions tells a lost database from a first start: a node on which pods
// run had one. Without that sign, and after a damaged file is moved aside, the
// operator says so with --repair-database.
func storeOptions(cfg *config.Config, opt Options, wired []cni.Wired) ipam.StoreOptions {
	serves := cfg.IPAM.Registry.Kind == config.RegistryBolt && cfg.IPAM.Registry.Listen.IsValid()
	out := ipam.StoreOptions{MoveAside: opt.RepairDatabase, Lost: serves && (opt.RepairDatabase || len(wired) > 0)}
	if serves {
		out.Marker = filepath.Join(cfg.Paths.Run, "registry.epoch")
	}
	return out
}
