package node

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"onlink/agent/config"
	"onlink/fib/underlay"
)

// errNoAddress is returned when the node has no address that peers could use
// as a next hop; the address may appear later (DHCP), so it is worth a retry
// by the service manager.
var errNoAddress = errors.New("no usable address")

// hostView is the input for the choice of the node's addresses.
type hostView struct {
	addrs  []underlay.Address
	source func(netip.Addr) (underlay.KernelRoute, error) // the kernel's way to an address, and its source
	match  func(netip.Addr) (underlay.KernelRoute, error) // the route that covers an address
}

// addresses are the two next hops of a node; either may be zero. Pending reports
// that a missing one may come within seconds: duplicate address detection still
// runs for it.
type nodeAddresses struct {
	v4, v6  netip.Addr
	pending bool
}

// of returns the address of a family, for changing it.
func (n *nodeAddresses) of(v4 bool) *netip.Addr {
	if v4 {
		return &n.v4
	}
	return &n.v6
}

// choose finds the node's addresses for `node.address`. An explicit address is
// taken as it is. A device or a network leaves the choice among its usable
// addresses; auto queries the kernel for the source address towards the targets,
// in their order. The address of the other family comes from the same device.
func (h hostView) choose(want config.NodeAddress, targets []netip.Addr) (nodeAddresses, error) {
	var out nodeAddresses
	for _, v4 := range []bool{true, false} {
		*out.of(v4) = h.pick(want, targets, v4)
	}
	if want.Auto() && !out.v4.IsValid() && !out.v6.IsValid() {
		out.v4, out.v6 = h.sole(true), h.sole(false)
	}
	h.complete(&out)
	out.pending = h.isPending(want, out)
	if !out.v4.IsValid() && !out.v6.IsValid() {
		return out, h.refuse(want)
	}
	return out, nil
}

// pick returns the address of a family that the configuration leads to.
func (h hostView) pick(want config.NodeAddress, targets []netip.Addr, v4 bool) netip.Addr {
	exact := want.Addr
	if want.Prefix.IsValid() && want.Prefix.IsSingleIP() {
		exact = want.Prefix.Addr()
	}
	switch {
	case exact.IsValid():
		if slices.ContainsFunc(h.addrs, func(a underlay.Address) bool { return a.Addr == exact && writable(a) }) && exact.Is4() == v4 {
			return exact
		}
		return netip.Addr{}
	case want.Auto():
		return h.towards(targets, v4)
	}
	return h.best(v4, func(a underlay.Address) bool {
		return want.Interface != "" && a.Dev == want.Interface || want.Prefix.IsValid() && want.Prefix.Contains(a.Addr)
	})
}

// writable reports whether an address may be the node's when it is written out:
// it may be deprecated or of a virtual router, but the machine must have it.
func writable(a underlay.Address) bool {
	return !a.Pending && !strings.Contains(a.Fault, "dadfailed")
}

// usable reports whether an address may be the node's without being written
// out.
func usable(a underlay.Address) bool { return a.Global && a.Fault == "" }

// best returns the most lasting usable address of a family among those that
// pass: of hardware before that of a bridge or a loopback device, one with a
// network before one alone, and the oldest.
func (h hostView) best(v4 bool, pass func(underlay.Address) bool) netip.Addr {
	var found netip.Addr
	lowest := 0
	for _, a := range h.addrs {
		if a.Addr.Is4() != v4 || !usable(a) || !pass(a) {
			continue
		}
		rank := 1
		if rankOf(a) == 0 {
			rank += 4
		}
		if a.Subnet.IsSingleIP() || a.Secondary {
			rank += 2
		}
		if lowest == 0 || rank < lowest {
			found, lowest = a.Addr, rank
		}
	}
	return found
}

// towards returns the source address of a family towards the first target that
// has a usable one.
func (h hostView) towards(targets []netip.Addr, v4 bool) netip.Addr {
	for _, t := range targets {
		if t.Is4() != v4 {
			continue
		}
		if a := h.sourceTo(t); a.IsValid() {
			return a
		}
	}
	return netip.Addr{}
}

// sourceTo returns the usable source address towards one target.
func (h hostView) sourceTo(t netip.Addr) netip.Addr {
	way, err := h.source(t)
	if err != nil {
		return netip.Addr{}
	}
	at := slices.IndexFunc(h.addrs, func(a underlay.Address) bool { return a.Addr == way.Src })
	switch {
	case at < 0: // link-local, or of a device of ours
		return netip.Addr{}
	case h.addrs[at].Dev != way.Dev && !way.Self && !h.meant(t, h.addrs[at], way.Dev):
		return netip.Addr{}
	case usable(h.addrs[at]):
		return way.Src
	}
	// The kernel would send from an address that is not for us to announce: a
	// temporary one, or one of a virtual router. The device has another.
	return h.best(t.Is4(), func(a underlay.Address) bool {
		return a.Dev == way.Dev || h.addrs[at].Lower != "" && a.Dev == h.addrs[at].Lower
	})
}

// meant reports whether a source address of another device than the packet's was
// chosen by an operator. Towards a device without an address the kernel takes the
// first that it finds, even that of a container bridge.
func (h hostView) meant(t netip.Addr, a underlay.Address, dev string) bool {
	if a.Kind == "loopback" {
		return true
	}
	if slices.ContainsFunc(h.addrs, func(o underlay.Address) bool { return o.Dev == dev && o.Master == a.Dev }) {
		return true // a VRF's own address
	}
	route, err := h.match(t)
	return err == nil && route.Src == a.Addr
}

// rankOf orders devices for a choice that no route decides: 2 for hardware and
// devices that bundle or divide it, 1 for devices that replace hardware inside a
// container, 0 for devices with addresses of inner networks.
func rankOf(a underlay.Address) int {
	switch a.Kind {
	case "", "bond", "team", "vlan":
		return 2
	case "veth", "macvlan", "ipvlan":
		return 1
	}
	return 0
}

// sole returns the address of a family when just one device can be the uplink:
// that is no guess.
func (h hostView) sole(v4 bool) netip.Addr {
	for _, rank := range []int{2, 1} {
		devices := map[string]bool{}
		for _, a := range h.addrs {
			if usable(a) && rankOf(a) == rank {
				devices[a.Dev] = true
			}
		}
		if len(devices) == 1 {
			return h.best(v4, func(a underlay.Address) bool { return devices[a.Dev] })
		}
		if len(devices) > 1 {
			break
		}
	}
	return netip.Addr{}
}

// complete finds the address of the other family beside the configured one: on
// the same device.
func (h hostView) complete(n *nodeAddresses) {
	for _, v4 := range []bool{true, false} {
		have, other := n.of(v4), n.of(!v4)
		at := slices.IndexFunc(h.addrs, func(a underlay.Address) bool { return a.Addr == *have })
		if at >= 0 && !other.IsValid() {
			*other = h.best(!v4, func(a underlay.Address) bool { return a.Dev == h.addrs[at].Dev })
		}
	}
}

// isPending reports whether an address that is missing may come in a second.
func (h hostView) isPending(want config.NodeAddress, n nodeAddresses) bool {
	primary := n.v4
	if !primary.IsValid() {
		primary = n.v6
	}
	at := slices.IndexFunc(h.addrs, func(a underlay.Address) bool { return a.Addr == primary })
	return slices.ContainsFunc(h.addrs, func(a underlay.Address) bool {
		if !a.Pending || n.of(a.Addr.Is4()).IsValid() {
			return false
		}
		if at >= 0 {
			return a.Dev == h.addrs[at].Dev
		}
		return a.Addr == want.Addr || a.Dev == want.Interface || want.Prefix.IsValid() && want.Prefix.Contains(a.Addr) ||
			want.Auto() && rankOf(a) > 0
	})
}

// refuse returns why no address was found, and the remedy.
func (h hostView) refuse(want config.NodeAddress) error {
	var have []string
	for _, a := range h.addrs {
		text := fmt.Sprintf("%s on %s", a.Addr, a.Dev)
		if a.Kind != "" {
			text += " (" + a.Kind + ")"
		}
		if a.Fault != "" {
			text += ": " + a.Fault
		} else if !a.Global {
			text += ": not of global scope"
		}
		have = append(have, text)
	}
	list := "none"
	if len(have) > 0 {
		list = strings.Join(have, ", ")
	}
	if want.Auto() {
		return fmt.Errorf("node.address: auto finds %w: no route with one leads to a peer, to the registry or to the default gateway, and several devices or none can be the uplink (this node has: %s); set the address, device or network by which the other nodes reach this one", errNoAddress, list)
	}
	return fmt.Errorf("node.address: %w matches %q (this node has: %s); set an address, a device or a network of this node", errNoAddress, want, list)
}
