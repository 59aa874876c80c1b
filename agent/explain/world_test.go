package explain

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"onlink/bgp"
	"onlink/bgp/policy"
	"onlink/fib/underlay"
	"onlink/internal/ours"
	"onlink/ipam"
	"onlink/probe"
	"onlink/rib"
)

// world is a node as a scenario has built it. The decision is that of package
// rib; the kernel holds what is decided unless the scenario says otherwise, every
// machine answers, and every probe does.
type world struct {
	name       string
	locals     map[netip.Addr]bool // addresses of the node itself, beside addr
	addr       netip.Addr
	others     map[netip.Addr]*world // other nodes, by address
	mute       map[netip.Addr]error  // addresses whose agent does not answer
	sent       map[string]string     // "PEER PREFIX" -> the rule that keeps it back; "": it is sent
	unguarded  map[netip.Addr]bool   // far nodes whose tunnelled packets the guard drops
	table      *rib.Table
	reach      reach
	pools      []rib.Pool
	permit     rib.Permit
	own        []ipam.BlockUsage
	pods       map[netip.Addr]ipam.Assignment
	services   []Announcement
	registry   []ipam.Block
	nodes      []ipam.Node
	silent     bool
	known      time.Duration // age of the registry's last answer; 0: there was none
	paths      map[netip.Prefix][]bgp.PathInfo
	announced  []bgp.Announced
	peers      []bgp.PeerStatus
	exports    []Export
	drained    bool
	failed     map[netip.Prefix]string
	lacks      map[netip.Prefix]bool // routes that the kernel does not hold
	kernel     []underlay.KernelRoute
	rules      []ruleFrom
	refuses    error                         // the kernel rejects packets of pods
	devices    map[string]underlay.LinkState // those that are not up and of MTU 1500
	gone       map[string]bool               // devices
	neighbours map[string][]underlay.Neighbour
	gateways   map[netip.Addr][]underlay.Gateway // of multipath routes
	machines   map[netip.Addr][]string           // MAC addresses that answer
	hindrances []Hindrance
	recent     []string
	problems   []string
	tunnel     TunnelState
	format     string // of the tunnels' packets
	wiring     map[netip.Addr]Wiring
	echoes     map[string]probe.Outcome // by the words before the outcome
}

// ruleFrom is a policy rule for packets from a range.
type ruleFrom struct {
	underlay.Rule

	from netip.Prefix
}

// reach is the kernel's FIB without our routes.
type reach map[netip.Addr]rib.Reach

// Reach implements rib.Resolver.
func (r reach) Reach(a netip.Addr) rib.Reach { return r[a] }

func newWorld() *world {
	r := reach{}
	return &world{
		locals: map[netip.Addr]bool{}, name: "n1", addr: ip("10.57.0.11"), others: map[netip.Addr]*world{}, mute: map[netip.Addr]error{}, sent: map[string]string{}, unguarded: map[netip.Addr]bool{},
		table: rib.NewTable(r), reach: r, pods: map[netip.Addr]ipam.Assignment{}, paths: map[netip.Prefix][]bgp.PathInfo{},
		failed: map[netip.Prefix]string{}, lacks: map[netip.Prefix]bool{}, gone: map[string]bool{}, neighbours: map[string][]underlay.Neighbour{}, gateways: map[netip.Addr][]underlay.Gateway{},
		devices: map[string]underlay.LinkState{}, machines: map[netip.Addr][]string{}, wiring: map[netip.Addr]Wiring{}, echoes: map[string]probe.Outcome{},
	}
}

// parts returns the world, link by link.
func (w *world) parts() World {
	out := World{
		Node: w.name, Addresses: []netip.Addr{w.addr}, Registry: owners{w}, Sessions: sessions{w}, Decider: decider{w}, Kernel: kernel{w}, Link: machines{w}, Host: host{w},
		Tunnels: tunnels{w}, Pods: pods{w}, Probes: probes{w}, Status: status{w},
	}
	if len(w.others)+len(w.mute) > 0 {
		out.Agents = agents{w}
	}
	return out
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
//	reflected PREFIX ADDR               the router ID of the node that announces it
//	withdrawn PREFIX                    the speaker has no path any more
//	refused PREFIX NEXTHOP RULE...      an announcement that import refuses
//	announces PREFIX OWNER REASON [to PEER | shutdown | drained | withheld]
//	network PREFIX                      a network of the node
//	fails PREFIX TEXT...                the kernel refuses a route
//	lacks PREFIX                        the kernel has lost a route
//	kernel PREFIX PROTO VIA DEV         a route that is not onlink's; PROTO may be TYPE:PROTO
//	kernel PREFIX PROTO VIA DEV TABLE   the same, in another table
//	rule PRIORITY FROM TABLE|DROPS      a policy rule
//	vrf TABLE                           pods' devices belong to a VRF
//	refuses ERRNO                       the kernel rejects packets of pods, and from loopback
//	local ADDR                          an address of the node itself
//	gone DEVICE                         a device that was removed
//	device DEVICE down|nocarrier|MTU    a device's state
//	neighbour ADDR DEV STATE [MAC]      an entry: failed, reachable or permanent
//	gateways ADDR DEV VIA...            the members of a multipath route to it
//	machine ADDR [MAC...]               the machines that answer for an address
//	hindrance CAUSE certain|maybe TEXT  a setting or chain of the host
//	problem TEXT                        a line of status
//	recent TEXT                         a setting that was set again
//	tunnel device|entries TEXT          what differs of the tunnel
//	format TEXT                         of the tunnels' packets
//	wiring ADDR TEXT                    what differs of a pod's interface
//	spoof ADDR TEXT                     of its entry against forged addresses
//	node NAME ADDR                      a node's address in the registry
//	known AGE                           the registry answered that long ago
//	session NAME ADDR STATE [TEXT...]   a session and its last error
//	held NAME ADDR TEXT...              one that is held down
//	export PEER accepted|RULE...        the verdict of export on own blocks
//	unconfirmed                         the own blocks are not confirmed
//	drained                             the node is drained
//	far NAME ADDR                       another node, whose agent answers
//	on NAME COMMAND...                  a command of that node's world
//	mute ADDR off|refused|silent|denied an agent that does not answer, and why
//	sent PEER PREFIX [RULE...]          what a peer of a reflector receives, or the rule that keeps it back
//	unguarded ADDR                      a far node whose tunnelled packets the guard drops
//	router NAME ADDR STATE              a session with a peer of another AS
//	echo [pod|large|tunnel|tcp|wire] ADDR KIND [WORDS...]  the outcome of a probe that is not answered; a
//	                                    silent one of a pod has: left ADDR, returned, stays
func (w *world) do(verb string, args []string) error {
	rest := func(n int) string { return strings.Join(args[n:], " ") }
	if done, err := w.doFar(verb, args, rest); done || err != nil {
		return err
	}
	if done, err := w.doKernel(verb, args, rest); done || err != nil {
		return err
	}
	switch verb {
	case "pool":
		w.pools = append(w.pools, rib.Pool{Prefix: pfx(args[0]), Encap: rib.CrossSubnet, Tunnel: args[1]})
		w.table.SetPools(w.pools)
	case "own":
		w.own = append(w.own, ipam.BlockUsage{Block: ipam.Block{CIDR: pfx(args[0]), Pool: "main", Node: w.name, Epoch: 1}, Confirmed: true})
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
	case "reflected":
		for i := range w.paths[pfx(args[0])] {
			w.paths[pfx(args[0])][i].OriginatorID = ip(args[1])
		}
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
		case len(args) > 3 && args[3] == "withheld":
			a.Withheld = "the machine was booted, and its owner has not sent it again"
		case len(args) > 3:
			a.Drained = "the node is " + args[3]
		}
		w.services = append(w.services, a)
	case "network":
		w.permit.NodeSubnets = append(w.permit.NodeSubnets, pfx(args[0]))
		w.permit.Host = append(w.permit.Host, pfx(args[0]))
		w.table.SetPermitted(w.permit)
	case "node":
		w.nodes = append(w.nodes, ipam.Node{Name: args[0], Addresses: []netip.Addr{ip(args[1])}})
	case "known":
		age, err := time.ParseDuration(args[0])
		w.known = age
		return err
	case "session":
		w.peers = append(w.peers, bgp.PeerStatus{Name: args[0], Address: ip(args[1]), State: args[2], LastError: rest(3)})
	case "held":
		w.peers = append(w.peers, bgp.PeerStatus{Name: args[0], Address: ip(args[1]), State: "Idle", Held: rest(2)})
	case "export":
		w.exports = append(w.exports, Export{Peer: args[0], Accepted: args[1] == "accepted", Rule: rest(1)})
	case "unconfirmed":
		for i := range w.own {
			w.own[i].Confirmed = false
		}
	case "router":
		w.peers = append(w.peers, bgp.PeerStatus{Name: args[0], Address: ip(args[1]), State: args[2], Role: bgp.EBGP})
	case "drained":
		w.drained = true
	case "hindrance":
		w.hindrances = append(w.hindrances, Hindrance{Cause: Cause(args[0]), Certain: args[1] == "certain", Detail: rest(2), Fix: "undo it"})
	case "problem":
		w.problems = append(w.problems, rest(0))
	case "recent":
		w.recent = append(w.recent, rest(0))
	case "tunnel":
		if args[0] == "device" {
			w.tunnel.Device = append(w.tunnel.Device, rest(1))
		} else {
			w.tunnel.Entries = append(w.tunnel.Entries, rest(1))
		}
	case "format":
		w.format = rest(0)
	case "wiring":
		w.wiring[ip(args[0])] = Wiring{Differences: []string{rest(1)}}
	case "spoof":
		w.wiring[ip(args[0])] = Wiring{Spoof: rest(1)}
	case "echo":
		return w.setEcho(args)
	default:
		return errCommand
	}
	return nil
}

// doFar runs the commands about other nodes, and about what they receive.
func (w *world) doFar(verb string, args []string, rest func(int) string) (done bool, err error) {
	switch verb {
	case "far":
		far := newWorld()
		far.name, far.addr = args[0], ip(args[1])
		w.others[far.addr] = far
	case "on":
		for _, far := range w.others {
			if far.name == args[0] {
				return true, far.do(args[1], args[2:])
			}
		}
		return true, errCommand
	case "mute":
		at := ip(args[0])
		reason := map[string]error{
			"off": ErrAgentsOff, "denied": errors.New("it rejects the certificate of api.admin.tls"),
			"refused": &SilentError{At: netip.AddrPortFrom(at, 9180), Refused: true, Err: unix.ECONNREFUSED},
			"silent":  &SilentError{At: netip.AddrPortFrom(at, 9180), Err: errors.New("nothing within 1s")},
		}[args[1]]
		if reason == nil {
			return true, errCommand
		}
		w.mute[at] = reason
	case "sent":
		w.sent[args[0]+" "+args[1]] = rest(2)
	case "unguarded":
		w.unguarded[ip(args[0])] = true
	default:
		return false, nil
	}
	return true, nil
}

// doKernel runs the commands about the kernel.
func (w *world) doKernel(verb string, args []string, rest func(int) string) (done bool, err error) {
	switch verb {
	case "fails":
		w.failed[pfx(args[0])] = rest(1)
	case "lacks":
		w.lacks[pfx(args[0])] = true
	case "kernel":
		return true, w.addKernel(args)
	case "rule":
		priority, err := strconv.ParseUint(args[0], 10, 32)
		if err != nil {
			return true, err
		}
		r := ruleFrom{Rule: underlay.Rule{Priority: uint32(priority), Text: "from " + args[1] + " " + args[2]}, from: pfx(args[1])}
		if table, err := strconv.ParseUint(args[2], 10, 32); err == nil {
			r.Table, r.Text = uint32(table), "from "+args[1]+" lookup "+args[2]
		} else {
			r.Drops = args[2]
		}
		w.rules = append(w.rules, r)
	case "vrf":
		table, err := strconv.ParseUint(args[0], 10, 32)
		w.rules = append(w.rules, ruleFrom{Rule: underlay.Rule{Priority: 1000, Text: "from all lookup [l3mdev-table]", Table: uint32(table), VRF: true, Common: true}, from: pfx("0.0.0.0/0")})
		return true, err
	case "refuses":
		w.refuses = map[string]error{"EXDEV": unix.EXDEV, "EHOSTUNREACH": unix.EHOSTUNREACH, "EIO": unix.EIO, "EINVAL": unix.EINVAL}[args[0]]
	case "local":
		w.locals[ip(args[0])] = true
	case "gone":
		w.gone[args[0]] = true
	case "device":
		state := underlay.LinkState{Name: args[0], Up: args[1] != "down", Carrier: args[1] != "down" && args[1] != "nocarrier", MTU: 1500}
		if mtu, err := strconv.Atoi(args[1]); err == nil {
			state.MTU = mtu
		}
		w.devices[args[0]] = state
	case "neighbour":
		state := map[string]uint16{"failed": unix.NUD_FAILED, "reachable": unix.NUD_REACHABLE, "permanent": unix.NUD_PERMANENT}[args[2]]
		n := underlay.Neighbour{Addr: ip(args[0]), State: state}
		if len(args) > 3 {
			if n.MAC, err = net.ParseMAC(args[3]); err != nil {
				return true, err
			}
		}
		w.neighbours[args[1]] = append(w.neighbours[args[1]], n)
	case "gateways":
		for _, via := range args[2:] {
			w.gateways[ip(args[0])] = append(w.gateways[ip(args[0])], underlay.Gateway{Dev: args[1], Via: ip(via)})
		}
	case "machine":
		w.machines[ip(args[0])] = args[1:]
	default:
		return false, nil
	}
	return true, nil
}

// setEcho sets the outcome of a probe.
func (w *world) setEcho(args []string) error {
	key, rest := args[0], args[1:]
	if _, err := netip.ParseAddr(key); err != nil {
		key, rest = key+" "+rest[0], rest[1:]
	}
	o := probe.Outcome{Detail: strings.Join(rest[1:], " "), RTT: time.Millisecond}
	switch rest[0] {
	case "answered":
		o.Kind = probe.Answered
	case "silent":
		o.Kind = probe.Silent
		if len(rest) > 1 {
			o.Seen.Watched = true
			switch rest[1] {
			case "left":
				o.Seen.Left = ip(rest[2])
			case "returned":
				o.Seen.Left, o.Seen.Returned = ip("10.244.1.5"), true
			}
		}
		o.Detail = "no answer to 4 packets within 1.3s"
	case "rejected":
		o.Kind, o.By = probe.Rejected, ip(rest[1])
	case "unsent":
		o.Kind = probe.Unsent
	case "toobig":
		mtu, err := strconv.Atoi(rest[2])
		if err != nil {
			return err
		}
		o.Kind, o.By, o.MTU = probe.TooBig, ip(rest[1]), mtu
	case "skipped":
		o.Kind = probe.Skipped
	default:
		return errCommand
	}
	w.echoes[key] = o
	return nil
}

func (w *world) addPod(args []string, wired bool) {
	namespace, name, _ := strings.Cut(args[1], "/")
	w.pods[ip(args[0])] = ipam.Assignment{
		Handle: ipam.Handle{ContainerID: fmt.Sprintf("c%d", len(w.pods)+1), IfName: "eth0"}, Namespace: namespace, Pod: name, HostDevice: args[2],
		Addresses: []netip.Addr{ip(args[0])}, Netns: "/run/netns/" + name,
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
	kind, name, typed := strings.Cut(args[1], ":")
	if !typed {
		kind, name = "unicast", args[1]
	}
	r := underlay.KernelRoute{
		Dst: pfx(args[0]), Protocol: map[string]uint8{"static": unix.RTPROT_STATIC, "kernel": unix.RTPROT_KERNEL, "boot": unix.RTPROT_BOOT}[name],
		Type:  map[string]uint8{"unicast": unix.RTN_UNICAST, "blackhole": unix.RTN_BLACKHOLE, "unreachable": unix.RTN_UNREACHABLE, "prohibit": unix.RTN_PROHIBIT}[kind],
		Table: unix.RT_TABLE_MAIN, Dev: args[3],
	}
	if r.Protocol == 0 || r.Type == 0 {
		return fmt.Errorf("%w: protocol %s", errCommand, args[1])
	}
	if args[2] != "-" {
		r.Via = ip(args[2])
	}
	if len(args) > 4 {
		table, err := strconv.ParseUint(args[4], 10, 32)
		if err != nil {
			return err
		}
		r.Table = uint32(table)
	}
	w.kernel = append(w.kernel, r)
	return nil
}

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ip(s string) netip.Addr    { return netip.MustParseAddr(s) }

type (
	owners   struct{ *world }
	sessions struct{ *world }
	decider  struct{ *world }
	kernel   struct{ *world }
	machines struct{ *world }
	host     struct{ *world }
	tunnels  struct{ *world }
	pods     struct{ *world }
	probes   struct{ *world }
	agents   struct{ *world }
	status   struct{ *world }
)

// InPool implements Registry.
func (w owners) InPool(addr netip.Addr) bool {
	for _, p := range w.pools {
		if p.Prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// OwnBlock implements Registry.
func (w owners) OwnBlock(addr netip.Addr) (ipam.BlockUsage, bool) {
	for _, b := range w.own {
		if b.CIDR.Contains(addr) {
			return b, true
		}
	}
	return ipam.BlockUsage{}, false
}

// Known implements Registry.
func (w owners) Known() (Known, bool) {
	k := Known{Age: w.known}
	if w.known > 0 {
		k.Blocks, k.Nodes = w.world.registry, w.nodes
	}
	return k, w.known > 0
}

// Registered implements Registry.
func (w owners) Registered(context.Context) ([]ipam.Block, error) {
	if w.silent {
		return nil, errors.New("no answer within 700ms")
	}
	return w.world.registry, nil
}

// Nodes implements Registry.
func (w owners) Nodes(context.Context) ([]ipam.Node, error) {
	if w.silent {
		return nil, errors.New("no answer within 700ms")
	}
	return w.nodes, nil
}

// Peers implements Sessions.
func (w sessions) Peers() []bgp.PeerStatus { return w.peers }

// Paths implements Sessions.
func (w sessions) Paths(_ context.Context, prefix netip.Prefix) []bgp.PathInfo {
	return w.paths[prefix]
}

// Announced implements Sessions.
func (w sessions) Announced(_ context.Context, addr netip.Addr) []bgp.Announced {
	var out []bgp.Announced
	for _, a := range w.announced {
		if a.Route.Prefix.Contains(addr) {
			out = append(out, a)
		}
	}
	return out
}

// Exports implements Sessions.
func (w sessions) Exports(_ context.Context, _ netip.Prefix, only []netip.Addr) []Export {
	return slices.DeleteFunc(slices.Clone(w.exports), func(e Export) bool {
		return len(only) > 0 && !slices.ContainsFunc(w.peers, func(p bgp.PeerStatus) bool { return p.Name == e.Peer && slices.Contains(only, p.Address) })
	})
}

// Sent implements Sessions.
func (w sessions) Sent(_ context.Context, peer netip.Addr, prefix netip.Prefix) (Export, error) {
	rule, ok := w.sent[peer.String()+" "+prefix.String()]
	if !ok {
		return Export{}, errors.New("no session")
	}
	return Export{Accepted: rule == "", Rule: rule}, nil
}

// Ask implements Agents: the far node's world answers.
func (w agents) Ask(ctx context.Context, node []netip.Addr, q Inquiry) (Findings, error) {
	if err := w.mute[node[0]]; err != nil {
		return Findings{}, err
	}
	for _, at := range node {
		if far, ok := w.others[at]; ok {
			return Answer(ctx, far.parts(), q)
		}
	}
	return Findings{}, &SilentError{At: netip.AddrPortFrom(node[0], 9180), Refused: true, Err: unix.ECONNREFUSED}
}

// Announcement implements Sessions.
func (w sessions) Announcement(addr netip.Addr) (Announcement, bool) {
	for _, a := range w.services {
		if a.Prefix.Contains(addr) {
			return a, true
		}
	}
	return Announcement{}, false
}

// Withdrawn implements Sessions.
func (w sessions) Withdrawn() string {
	if w.drained {
		return "the node is drained"
	}
	return ""
}

// Decision implements Decider.
func (w decider) Decision(_ context.Context, addr netip.Addr) (Decision, error) {
	d := Decision{Failed: func(p netip.Prefix) string { return w.failed[p] }}
	d.Route, d.Known = w.table.Lookup(addr)
	d.Installable, d.Uses = w.table.LookupInstallable(addr)
	return d, nil
}

// errnos are the kernel's refusals by type of route.
var errnos = map[uint8]error{unix.RTN_BLACKHOLE: unix.EINVAL, unix.RTN_UNREACHABLE: unix.EHOSTUNREACH, unix.RTN_PROHIBIT: unix.EACCES}

// Way implements Kernel.
func (w kernel) Way(p underlay.Packet) (underlay.KernelRoute, error) {
	t, err := w.Trace(p)
	switch {
	case err != nil:
		return underlay.KernelRoute{}, err
	case (p.In != "" || p.From.IsLoopback()) && w.refuses != nil:
		return underlay.KernelRoute{}, w.refuses
	case t.Rule.Drops != "" || !t.Found:
		return underlay.KernelRoute{}, unix.ENETUNREACH
	case errnos[t.Route.Type] != nil:
		return underlay.KernelRoute{}, errnos[t.Route.Type]
	}
	return t.Route, nil
}

// Trace implements Kernel.
func (w kernel) Trace(p underlay.Packet) (underlay.Trace, error) {
	for _, r := range w.rules {
		if !r.from.Contains(p.From) {
			continue
		}
		if r.Drops != "" {
			return underlay.Trace{Rule: r.Rule}, nil
		}
		if route, ok := w.longest(p.To, r.Table); ok {
			return underlay.Trace{Rule: r.Rule, Route: route, Found: true}, nil
		}
	}
	route, ok := w.longest(p.To, unix.RT_TABLE_MAIN)
	return underlay.Trace{Rule: underlay.Rule{Priority: 32766, Table: unix.RT_TABLE_MAIN, Common: true}, Route: route, Found: ok}, nil
}

// longest returns the longest match of the routes of a table, and in table main of
// those that are decided.
func (w kernel) longest(addr netip.Addr, table uint32) (best underlay.KernelRoute, found bool) {
	if r, ok := w.table.LookupInstallable(addr); ok && table == unix.RT_TABLE_MAIN && !w.lacks[r.Prefix] && w.failed[r.Prefix] == "" {
		best, found = underlay.KernelRoute{Dst: r.Prefix, Protocol: ours.Protocol, Type: unix.RTN_UNICAST, Table: table}, true
	}
	for _, r := range w.world.kernel {
		if r.Table == table && r.Dst.Contains(addr) && (!found || r.Dst.Bits() >= best.Dst.Bits()) {
			best, found = r, true
		}
	}
	return best, found
}

// Source implements Kernel.
func (w kernel) Source(addr netip.Addr) (underlay.KernelRoute, error) {
	if addr == w.addr || w.locals[addr] {
		return underlay.KernelRoute{Self: true, Dev: "lo"}, nil
	}
	r, ok := w.longest(addr, unix.RT_TABLE_MAIN)
	if !ok || errnos[r.Type] != nil {
		return r, unix.ENETUNREACH
	}
	r.Src = w.addr
	return r, nil
}

// Gateways implements Kernel.
func (w kernel) Gateways(addr netip.Addr) ([]underlay.Gateway, error) {
	return w.world.gateways[addr], nil
}

// Device implements Kernel.
func (w kernel) Device(name string) (underlay.LinkState, error) {
	if w.gone[name] {
		return underlay.LinkState{}, fmt.Errorf("%s: %w", name, underlay.ErrNoDevice)
	}
	if s, ok := w.devices[name]; ok {
		return s, nil
	}
	return underlay.LinkState{Name: name, Up: true, Carrier: true, MTU: 1500}, nil
}

// Neighbours implements Kernel.
func (w kernel) Neighbours(dev string) ([]underlay.Neighbour, error) { return w.neighbours[dev], nil }

// Solicit implements Neighbourhood.
func (w machines) Solicit(_ context.Context, _ string, addr netip.Addr) ([]string, error) {
	if macs, set := w.world.machines[addr]; set {
		return macs, nil
	}
	return []string{"02:00:00:00:00:01"}, nil
}

// Examine implements Host.
func (w host) Examine(_ context.Context, p Passage) []Hindrance {
	if w.unguarded[p.Node] {
		return append(slices.Clone(w.hindrances), Hindrance{Cause: HostGuard, Detail: "the guard does not accept tunnelled packets from " + p.Node.String(), Fix: "undo it", Certain: true})
	}
	return w.hindrances
}

// Recent implements Host.
func (w host) Recent(bool) []string { return w.recent }

// Problems implements Status.
func (w status) Problems(context.Context) ([]string, error) { return w.problems, nil }

// Tunnel implements Tunnels.
func (w tunnels) Tunnel(_ context.Context, dev string, _ netip.Addr) (TunnelState, error) {
	s := w.tunnel
	s.Text, s.Format = "as "+dev+" is configured", w.format
	return s, nil
}

// Pod implements Pods.
func (w pods) Pod(addr netip.Addr) (ipam.Assignment, bool) {
	as, ok := w.world.pods[addr]
	return as, ok
}

// Samples implements Pods.
func (w pods) Samples(v6 bool, but netip.Addr) []ipam.Assignment {
	var out []ipam.Assignment
	for _, addr := range slices.SortedFunc(maps.Keys(w.world.pods), netip.Addr.Compare) {
		if addr.Is6() == v6 && addr != but {
			out = append(out, w.world.pods[addr])
		}
	}
	return out
}

// Wiring implements Pods.
func (w pods) Wiring(_ context.Context, as ipam.Assignment) (Wiring, error) {
	return w.wiring[as.Addresses[0]], nil
}

// outcome returns the outcome of a probe of a kind, answered unless it is set.
func (w probes) outcome(kind string, e probe.Echo) probe.Outcome {
	key := e.To.String()
	if kind != "" {
		key = kind + " " + key
	}
	if o, ok := w.echoes[key]; ok {
		return o
	}
	return probe.Outcome{Kind: probe.Answered, RTT: time.Millisecond, Detail: "answers"}
}

// Echo implements Probes.
func (w probes) Echo(_ context.Context, e probe.Echo) probe.Outcome {
	switch {
	case e.Size > 0:
		return w.outcome("large", e)
	case e.Device != "":
		return w.outcome("tunnel", e)
	case e.Netns != "":
		return w.outcome("pod", e)
	}
	return w.outcome("", e)
}

// Connect implements Probes.
func (w probes) Connect(_ context.Context, e probe.Echo) probe.Outcome {
	if o, ok := w.echoes["tcp "+e.To.String()]; ok {
		return o
	}
	return probe.Outcome{Kind: probe.Silent}
}

// Wire implements Probes.
func (w probes) Wire(_ context.Context, _, _ string, e probe.Echo) probe.Outcome {
	return w.outcome("wire", e)
}
