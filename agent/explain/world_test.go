package explain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"onlink/bgp"
	"onlink/bgp/policy"
	"onlink/fib/underlay"
	"onlink/internal/ours"
	"onlink/ipam"
	"onlink/rib"
)

// world is a node as a scenario has built it. The decision is that of package
// rib; the kernel holds what is decided unless the scenario says otherwise.
type world struct {
	table      *rib.Table
	reach      reach
	pools      []rib.Pool
	permit     rib.Permit
	own        []ipam.Block
	pods       map[netip.Addr]ipam.Assignment
	services   []Announcement
	registry   []ipam.Block
	silent     bool
	paths      map[netip.Prefix][]bgp.PathInfo
	announced  []bgp.Announced
	failed     map[netip.Prefix]string
	lacks      map[netip.Prefix]bool // routes that the kernel does not hold
	kernel     []underlay.KernelRoute
	gone       map[string]bool // devices
	neighbours map[string][]underlay.Neighbour
	obstacle   string
}

// reach is the kernel's FIB without our routes.
type reach map[netip.Addr]rib.Reach

// Reach implements rib.Resolver.
func (r reach) Reach(a netip.Addr) rib.Reach { return r[a] }

func newWorld() *world {
	r := reach{}
	return &world{
		table: rib.NewTable(r), reach: r, pods: map[netip.Addr]ipam.Assignment{}, paths: map[netip.Prefix][]bgp.PathInfo{},
		failed: map[netip.Prefix]string{}, lacks: map[netip.Prefix]bool{}, gone: map[string]bool{}, neighbours: map[string][]underlay.Neighbour{},
	}
}

var errCommand = errors.New("no such command")

// do runs one command; "this node" is n1:
//
//	pool PREFIX TUNNEL                  a pool, CrossSubnet
//	own BLOCK                           a block of this node
//	registry BLOCK NODE                 a block in the registry
//	registry silent                     the registry does not answer
//	pod ADDR NAMESPACE/NAME DEVICE      a pod of this node
//	unwired ADDR NAMESPACE/NAME DEVICE  one that has no route
//	reach ADDR on-link DEV              in a /24 of that device
//	reach ADDR gateway VIA DEV          by the default route
//	reach ADDR self                     an address of this node
//	path PREFIX NEXTHOP...              paths that import accepts
//	withdrawn PREFIX                    the speaker has no path any more
//	refused PREFIX NEXTHOP RULE...      an announcement that import refuses
//	announces PREFIX OWNER REASON [to PEER | shutdown | drained]
//	network PREFIX                      a network of the node
//	fails PREFIX TEXT...                the kernel refuses a route
//	lacks PREFIX                        the kernel has lost a route
//	kernel PREFIX PROTO VIA DEV         a route that is not onlink's
//	gone DEVICE                         a device that was removed
//	neighbour ADDR DEV STATE            failed, reachable or permanent
//	obstacle TEXT...                    the host does not forward
func (w *world) do(verb string, args []string) error {
	rest := func(n int) string { return strings.Join(args[n:], " ") }
	switch verb {
	case "pool":
		w.pools = append(w.pools, rib.Pool{Prefix: pfx(args[0]), Encap: rib.CrossSubnet, Tunnel: args[1]})
		w.table.SetPools(w.pools)
	case "own":
		w.own = append(w.own, ipam.Block{CIDR: pfx(args[0]), Pool: "main", Node: w.Node(), Epoch: 1})
		var blocks []netip.Prefix
		for _, b := range w.own {
			blocks = append(blocks, b.CIDR)
		}
		w.table.SetOwn(blocks)
	case "registry":
		if w.silent = args[0] == "silent"; !w.silent {
			w.registry = append(w.registry, ipam.Block{CIDR: pfx(args[0]), Pool: "main", Node: args[1], Epoch: 1})
		}
	case "pod", "unwired":
		w.addPod(args, verb == "pod")
	case "reach":
		return w.setReach(args)
	case "path":
		w.addPaths(pfx(args[0]), args[1:])
	case "withdrawn":
		delete(w.paths, pfx(args[0]))
	case "refused":
		a := bgp.Announced{Peer: ip("10.57.0.1"), Name: "tor", Route: policy.Route{Prefix: pfx(args[0]), NextHop: ip(args[1])}}
		a.Verdict.Rule = rest(2)
		w.announced = append(w.announced, a)
	case "announces":
		a := Announcement{Prefix: pfx(args[0]), Owner: args[1], Reason: args[2]}
		switch {
		case len(args) > 4:
			a.Peers = args[4:]
		case len(args) > 3 && args[3] == "shutdown":
			a.Shutdown = true
		case len(args) > 3:
			a.Withheld = "the node is " + args[3]
		}
		w.services = append(w.services, a)
	case "network":
		w.permit.NodeSubnets = append(w.permit.NodeSubnets, pfx(args[0]))
		w.permit.Host = append(w.permit.Host, pfx(args[0]))
		w.table.SetPermitted(w.permit)
	case "fails":
		w.failed[pfx(args[0])] = rest(1)
	case "lacks":
		w.lacks[pfx(args[0])] = true
	case "kernel":
		return w.addKernel(args)
	case "gone":
		w.gone[args[0]] = true
	case "neighbour":
		state := map[string]uint16{"failed": unix.NUD_FAILED, "reachable": unix.NUD_REACHABLE, "permanent": unix.NUD_PERMANENT}[args[2]]
		w.neighbours[args[1]] = append(w.neighbours[args[1]], underlay.Neighbour{Addr: ip(args[0]), State: state})
	case "obstacle":
		w.obstacle = rest(0)
	default:
		return errCommand
	}
	return nil
}

func (w *world) addPod(args []string, wired bool) {
	namespace, name, _ := strings.Cut(args[1], "/")
	w.pods[ip(args[0])] = ipam.Assignment{
		Handle: ipam.Handle{ContainerID: "c1", IfName: "eth0"}, Namespace: namespace, Pod: name, HostDevice: args[2],
	}
	if wired {
		w.table.SetPod(pfx(args[0]+"/32"), args[2])
	}
}

func (w *world) setReach(args []string) error {
	var r rib.Reach
	switch args[1] {
	case "on-link":
		r = rib.Reach{Kind: rib.OnLink, Hops: rib.MakeHops(rib.Hop{Dev: args[2]}), Match: pfx(args[0] + "/24").Masked()}
	case "gateway":
		r = rib.Reach{Kind: rib.Gateway, Hops: rib.MakeHops(rib.Hop{Via: ip(args[2]), Dev: args[3]}), Match: pfx("0.0.0.0/0")}
	case "self":
		r = rib.Reach{Kind: rib.Self}
	default:
		return fmt.Errorf("%w: reach %s", errCommand, args[1])
	}
	w.reach[ip(args[0])] = r
	return nil
}

func (w *world) addPaths(prefix netip.Prefix, hops []string) {
	u := rib.Update{Prefix: prefix}
	for i, h := range hops {
		u.Paths = append(u.Paths, rib.Path{NextHop: ip(h)})
		w.paths[prefix] = append(w.paths[prefix], bgp.PathInfo{Prefix: prefix, NextHop: ip(h), Peer: ip("10.57.0.10"), LocalPref: 100, Best: i == 0})
	}
	w.table.Update(u)
}

func (w *world) addKernel(args []string) error {
	proto := map[string]uint8{"static": unix.RTPROT_STATIC, "kernel": unix.RTPROT_KERNEL}[args[1]]
	if proto == 0 {
		return fmt.Errorf("%w: protocol %s", errCommand, args[1])
	}
	r := underlay.KernelRoute{Dst: pfx(args[0]), Protocol: proto, Dev: args[3]}
	if args[2] != "-" {
		r.Via = ip(args[2])
	}
	w.kernel = append(w.kernel, r)
	return nil
}

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ip(s string) netip.Addr    { return netip.MustParseAddr(s) }

// Node implements World.
func (*world) Node() string { return "n1" }

// InPool implements World.
func (w *world) InPool(addr netip.Addr) bool {
	for _, p := range w.pools {
		if p.Prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// OwnBlock implements World.
func (w *world) OwnBlock(addr netip.Addr) (ipam.Block, bool) {
	for _, b := range w.own {
		if b.CIDR.Contains(addr) {
			return b, true
		}
	}
	return ipam.Block{}, false
}

// Announcement implements World.
func (w *world) Announcement(addr netip.Addr) (Announcement, bool) {
	for _, a := range w.services {
		if a.Prefix.Contains(addr) {
			return a, true
		}
	}
	return Announcement{}, false
}

// Pod implements World.
func (w *world) Pod(addr netip.Addr) (ipam.Assignment, bool) {
	as, ok := w.pods[addr]
	return as, ok
}

// Registered implements World.
func (w *world) Registered(context.Context) ([]ipam.Block, error) {
	if w.silent {
		return nil, errors.New("no answer within 700ms")
	}
	return w.registry, nil
}

// Decision implements World.
func (w *world) Decision(_ context.Context, addr netip.Addr) (Decision, error) {
	d := Decision{Failed: func(p netip.Prefix) string { return w.failed[p] }}
	d.Route, d.Known = w.table.Lookup(addr)
	d.Installable, d.Uses = w.table.LookupInstallable(addr)
	return d, nil
}

// Paths implements World.
func (w *world) Paths(_ context.Context, prefix netip.Prefix) []bgp.PathInfo { return w.paths[prefix] }

// Announced implements World.
func (w *world) Announced(_ context.Context, addr netip.Addr) []bgp.Announced {
	var out []bgp.Announced
	for _, a := range w.announced {
		if a.Route.Prefix.Contains(addr) {
			out = append(out, a)
		}
	}
	return out
}

// Lookup implements World: the longest match of the routes that are not
// onlink's and those that are decided.
func (w *world) Lookup(addr netip.Addr) (underlay.KernelRoute, error) {
	best, found := underlay.KernelRoute{}, false
	if r, ok := w.table.LookupInstallable(addr); ok && !w.lacks[r.Prefix] && w.failed[r.Prefix] == "" {
		best, found = underlay.KernelRoute{Dst: r.Prefix, Protocol: ours.Protocol}, true
	}
	for _, r := range w.kernel {
		if r.Dst.Contains(addr) && (!found || r.Dst.Bits() >= best.Dst.Bits()) {
			best, found = r, true
		}
	}
	if !found {
		return best, underlay.ErrNoRoute
	}
	return best, nil
}

// Source implements World.
func (w *world) Source(addr netip.Addr) (underlay.KernelRoute, error) { return w.Lookup(addr) }

// Device implements World.
func (w *world) Device(name string) error {
	if w.gone[name] {
		return fmt.Errorf("%s: %w", name, underlay.ErrNoDevice)
	}
	return nil
}

// Neighbours implements World.
func (w *world) Neighbours(dev string) ([]underlay.Neighbour, error) { return w.neighbours[dev], nil }

// HostObstacle implements World.
func (w *world) HostObstacle(netip.Addr) string { return w.obstacle }
