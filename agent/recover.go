package agent

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"onlink/agent/config"
	"onlink/cni"
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

// recoverPods makes the database know the pods that run: after it was lost,
// damaged or replaced by an older backup their addresses would be given out a
// second time. What the database knows already costs one list of interfaces.
func (a *agent) recoverPods(wired []cni.Wired) error {
	var missing []ipam.Assignment
	for _, w := range wired {
		h := handle(w.Attachment)
		if _, known := a.alloc.Lookup(h); known {
			continue
		}
		addrs, err := w.Addresses(a.cfg.FIB.Table)
		if err != nil {
			return fmt.Errorf("recover pods: %w", err)
		}
		slices.SortFunc(addrs, netip.Addr.Compare)
		missing = append(missing, ipam.Assignment{
			Handle: h, Addresses: addrs, Netns: w.Netns, Namespace: w.Namespace, Pod: w.Pod, HostDevice: w.HostDevice,
		})
	}
	entered, refused, err := a.alloc.Recover(missing)
	if err != nil {
		return err
	}
	for _, as := range entered {
		a.log.Warn("recovered a running pod that the database did not know", "namespace", as.Namespace, "pod", as.Pod, "addresses", as.Addresses)
	}
	for _, err := range refused {
		a.problem("%v", err)
	}
	return nil
}

// storeOptions tells a lost database from a first start: a node on which pods
// run had one. Without that sign, and after a damaged file is moved aside, the
// operator says so with --repair-database.
func storeOptions(cfg *config.Config, opt Options, wired []cni.Wired) ipam.StoreOptions {
	serves := cfg.IPAM.Registry.Kind == config.RegistryBolt && cfg.IPAM.Registry.Listen.IsValid()
	return ipam.StoreOptions{MoveAside: opt.RepairDatabase, Lost: serves && (opt.RepairDatabase || len(wired) > 0)}
}
