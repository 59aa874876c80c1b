package dataplane

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"onlink/sysctl"
)

// setting is one value below /proc/sys that the agent relies on.
type setting struct {
	name, value string
}

// forwarding are the settings that turn the node into a router for the families
// of its pools (ip-sysctl: ip_forward, conf/all/forwarding): without them a
// pod's packets end at the node. The devices are checked too, because one can be
// turned off alone. A node without IPv6 pods stays an IPv6 host.
func forwarding(v4, v6 bool, devices []string) []setting {
	var out []setting
	if v4 {
		out = append(out, setting{"net/ipv4/ip_forward", "1"})
	}
	if v6 {
		out = append(out, setting{"net/ipv6/conf/all/forwarding", "1"})
	}
	for _, dev := range devices {
		if v4 {
			out = append(out, setting{"net/ipv4/conf/" + dev + "/forwarding", "1"})
		}
		if v6 {
			out = append(out, setting{"net/ipv6/conf/" + dev + "/forwarding", "1"})
		}
	}
	return out
}

// multipathHash makes multipath routes choose by addresses and ports instead of
// addresses alone (ip-sysctl: fib_multipath_hash_policy): otherwise all flows
// between two nodes, tunnelled ones too, share one of the uplinks.
var multipathHash = []setting{
	{"net/ipv4/fib_multipath_hash_policy", "1"},
	{"net/ipv6/fib_multipath_hash_policy", "1"},
}

// keepAdvertisements keeps router advertisements working on devices that accept
// them when the node forwards IPv6 (ip-sysctl: accept_ra, 2 instead of 1).
// Otherwise the kernel removes their default routes with the same write that
// turns forwarding on, and ignores routers from then on.
func keepAdvertisements() error {
	all, err := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra")
	if err != nil {
		return err
	}
	for _, path := range all {
		dev := filepath.Base(filepath.Dir(path))
		name := "net/ipv6/conf/" + dev + "/"
		if dev == "all" || dev == "default" || dev == "lo" || value(name+"forwarding") != "0" || value(name+"accept_ra") != "1" {
			continue
		}
		if _, err := set(setting{name + "accept_ra", "2"}); err != nil {
			return fmt.Errorf("%w; without it the node loses the IPv6 default route that routers advertise on %s", err, dev)
		}
	}
	return nil
}

// passDeadLinks makes the kernel pass over routes, and members of multipath
// routes, whose device has no carrier (ip-sysctl:
// ignore_routes_with_linkdown): it then agrees with the answers of package
// underlay, and traffic leaves a dead uplink at once.
func passDeadLinks(devices []string) error {
	var errs []error
	for _, dev := range devices {
		for _, family := range []string{"ipv4", "ipv6"} {
			_, err := set(setting{"net/" + family + "/conf/" + dev + "/ignore_routes_with_linkdown", "1"})
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// value reads a setting; "" when there is none.
func value(name string) string {
	v, err := sysctl.Read(name)
	if err != nil {
		return ""
	}
	return v
}

// set sets a value unless it is set already, so that a read-only /proc with the
// right values is fine, and returns the former one. A missing file (no IPv6 in
// this kernel, a removed device) is not an error.
func set(s setting) (was string, err error) {
	was, err = sysctl.Read(s.name)
	if errors.Is(err, fs.ErrNotExist) {
		return s.value, nil
	}
	if err == nil && was == s.value {
		return was, nil
	}
	if strings.HasPrefix(s.name, "net/ipv6/") && strings.HasSuffix(s.name, "/forwarding") {
		if err := keepAdvertisements(); err != nil {
			return was, err
		}
	}
	if err := sysctl.Write(s.name, s.value); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return was, fmt.Errorf("%w; set it in /etc/sysctl.d or give the agent CAP_NET_ADMIN and a writable /proc/sys", err)
	}
	return was, nil
}

// Forward makes the node a router for the families of its pools, on the devices
// too.
func Forward(v4, v6 bool, devices []string) error { return setAll(forwarding(v4, v6, devices)) }

// setAll sets several values.
func setAll(list []setting) error {
	var errs []error
	for _, s := range list {
		_, err := set(s)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// strictReversePath reports whether rp_filter on a device is strict (RFC 3704):
// it then drops the answers to packets that this node itself sent into a
// tunnel, because they come back plainly, through the underlay.
func strictReversePath(device string) bool {
	// The kernel takes the larger of all and the device: 2 (loose) wins over 1.
	return max(value("net/ipv4/conf/all/rp_filter"), value("net/ipv4/conf/"+device+"/rp_filter")) == "1"
}
