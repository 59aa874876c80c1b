package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// forwarding turns the node into a router: without these two a pod's packets
// end at the node (ip-sysctl: ip_forward, conf/all/forwarding).
func forwarding() error {
	return errors.Join(
		turnOn("net/ipv4/ip_forward"),
		turnOn("net/ipv6/conf/all/forwarding"),
	)
}

// multipathHash makes multipath routes choose by addresses and ports instead of
// addresses alone (ip-sysctl: fib_multipath_hash_policy): otherwise all flows
// between two nodes, tunnelled ones too, share one of the uplinks.
func multipathHash() error {
	return errors.Join(
		turnOn("net/ipv4/fib_multipath_hash_policy"),
		turnOn("net/ipv6/fib_multipath_hash_policy"),
	)
}

// passDeadLinks makes the kernel pass over routes, and members of multipath
// routes, whose device has no carrier (ip-sysctl:
// ignore_routes_with_linkdown): it then agrees with what package underlay
// answers, and traffic leaves a dead uplink at once.
func passDeadLinks(devices []string) error {
	var errs []error
	for _, dev := range devices {
		for _, family := range []string{"ipv4", "ipv6"} {
			errs = append(errs, turnOn("net/"+family+"/conf/"+dev+"/ignore_routes_with_linkdown"))
		}
	}
	return errors.Join(errs...)
}

// turnOn sets one value to 1 unless it is so already, so that a read-only /proc
// with the right values is fine. A missing file (no IPv6 in this kernel) is
// not an error.
func turnOn(name string) error {
	path := filepath.Join("/proc/sys", name)
	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && strings.TrimSpace(string(old)) == "1" {
		return nil
	}
	if err := os.WriteFile(path, []byte("1"), 0o644); err != nil {
		return fmt.Errorf("set sysctl %s=1: %w; set it in /etc/sysctl.d or give the agent CAP_NET_ADMIN and a writable /proc/sys",
			strings.ReplaceAll(name, "/", "."), err)
	}
	return nil
}

// strictReversePath reports whether rp_filter on a device is strict (RFC 3704):
// it then drops the answers to packets that this node itself sent into a
// tunnel, because they come back plainly, through the underlay.
func strictReversePath(device string) bool {
	read := func(dev string) string {
		b, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + dev + "/rp_filter")
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(b))
	}
	// The kernel takes the larger of all and the device: 2 (loose) wins over 1.
	return max(read("all"), read(device)) == "1"
}
