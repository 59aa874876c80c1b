// Package facts gives an explanation the state of this node: it implements the
// interfaces of agent/explain, one for each link of the chain, over the rooms behind
// them. It reads and changes nothing.
package facts

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"onlink/agent/announce"
	"onlink/agent/config"
	"onlink/agent/dataplane"
	"onlink/agent/drain"
	"onlink/agent/explain"
	"onlink/agent/owners"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/bgp/policy"
	"onlink/cni"
	"onlink/fib/underlay"
	"onlink/ipam"
	"onlink/nft"
	"onlink/probe"
	"onlink/tunnel"
)

// Rooms are the parts of the agent that know of a link.
type Rooms struct {
	Node      string
	Addresses []netip.Addr         // of the node
	Pools     func() []config.Pool // in force
	Alloc     *ipam.Allocator
	Owners    *owners.Watch
	Speaker   *bgp.Speaker
	Announced *announce.Announcements
	Drain     *drain.Drain
	Watch     *underlay.Watcher
	Host      *dataplane.Host
	CNI       *cni.Server
	Board     *state.Board
	// Registered lists the blocks of all nodes, and returns soon.
	Registered func(context.Context) ([]ipam.Block, error)
	// Nodes lists the addresses of all nodes, and returns soon.
	Nodes func(context.Context) ([]ipam.Node, error)
	// Decide returns the decision of the learn flow for an address.
	Decide func(context.Context, netip.Addr) (explain.Decision, error)
	// Tunnels returns the tunnel devices that pools need.
	Tunnels func(context.Context) ([]tunnel.Desired, error)
}

// World returns what an explanation reads.
func (r *Rooms) World() explain.World {
	probes := probe.New()
	return explain.World{
		Node: r.Node, Addresses: r.Addresses, Registry: ownersWorld{r}, Sessions: sessionsWorld{r.Speaker, r}, Decider: decisionWorld{r},
		Kernel: kernelWorld{}, Link: linkWorld{r.Watch, probes}, Host: hostWorld{r}, Tunnels: tunnelWorld{r},
		Pods: podWorld{r}, Probes: probeWorld{probes}, Status: statusWorld{r.Board},
	}
}

// ownersWorld implements explain.Registry.
type ownersWorld struct{ of *Rooms }

// InPool implements explain.Registry.
func (w ownersWorld) InPool(addr netip.Addr) bool {
	return slices.ContainsFunc(w.of.Pools(), func(p config.Pool) bool { return p.CIDR.Contains(addr) })
}

// OwnBlock implements explain.Registry.
func (w ownersWorld) OwnBlock(addr netip.Addr) (ipam.BlockUsage, bool) {
	for _, b := range w.of.Alloc.Blocks() {
		if b.Block.CIDR.Contains(addr) {
			return b, true
		}
	}
	return ipam.BlockUsage{}, false
}

// Known implements explain.Registry.
func (w ownersWorld) Known() (explain.Known, bool) {
	last := w.of.Owners.Last()
	if last.At.IsZero() {
		return explain.Known{}, false
	}
	return explain.Known{Blocks: last.Blocks, Nodes: last.Nodes, Age: time.Since(last.At)}, true
}

// Registered implements explain.Registry.
func (w ownersWorld) Registered(ctx context.Context) ([]ipam.Block, error) {
	return w.of.Registered(ctx)
}

// Nodes implements explain.Registry.
func (w ownersWorld) Nodes(ctx context.Context) ([]ipam.Node, error) { return w.of.Nodes(ctx) }

// sessionsWorld implements explain.Sessions.
type sessionsWorld struct {
	*bgp.Speaker

	of *Rooms
}

// Announcement implements explain.Sessions.
func (w sessionsWorld) Announcement(addr netip.Addr) (explain.Announcement, bool) {
	one, owner, withheld, ok := w.of.Announced.Of(addr)
	if !ok {
		return explain.Announcement{}, false
	}
	phase, _ := w.of.Drain.State()
	out := explain.Announcement{
		Prefix: one.Prefix, Owner: owner, Reason: one.Reason, Peers: one.Peers, Shutdown: one.GracefulShutdown || phase == drain.Leaving,
		Drained: w.Withdrawn(),
	}
	if withheld {
		out.Withheld = announce.WithheldReason
	}
	return out, true
}

// Withdrawn implements explain.Sessions.
func (w sessionsWorld) Withdrawn() string {
	if phase, _ := w.of.Drain.State(); phase == drain.Drained {
		return "the node is drained" + w.of.Drain.Cause().String()
	}
	return ""
}

// Exports implements explain.Sessions.
func (w sessionsWorld) Exports(ctx context.Context, prefix netip.Prefix, only []netip.Addr) []explain.Export {
	const most = 64 // a reflector has many clients, with one policy
	var out []explain.Export
	for _, p := range w.Peers() { //nolint:contextcheck // it reads the engine of this process
		if p.State != state.Established || len(out) >= most || len(only) > 0 && !slices.Contains(only, p.Address) {
			continue
		}
		v, err := w.TestExport(ctx, p.Address.String(), policy.Route{Prefix: prefix, Source: policy.Own})
		if err != nil {
			continue // the peer was removed in between
		}
		name := p.Name
		if name == "" || p.Dynamic {
			name = p.Address.String()
		}
		out = append(out, explain.Export{Peer: name, Accepted: v.Accepted, Rule: v.Rule})
	}
	return out
}

// Sent implements explain.Sessions.
func (w sessionsWorld) Sent(ctx context.Context, peer netip.Addr, prefix netip.Prefix) (explain.Export, error) {
	sent := explain.Export{Peer: peer.String(), Rule: "there is no best path"}
	err := bgp.NewOperator(w.Speaker).Routes(ctx, peer, bgp.Advertised, prefix, func(r *bgp.PeerRoute) error {
		if r.Route.Prefix == prefix {
			sent.Accepted, sent.Rule = r.State == "sent" || r.State == "pending", r.Rule // as PeerRoute says
		}
		return nil
	})
	return sent, err
}

// decisionWorld implements explain.Decider.
type decisionWorld struct{ of *Rooms }

// Decision implements explain.Decider.
func (w decisionWorld) Decision(ctx context.Context, addr netip.Addr) (explain.Decision, error) {
	return w.of.Decide(ctx, addr)
}

// kernelWorld implements explain.Kernel.
type kernelWorld struct{}

// Way implements explain.Kernel.
func (kernelWorld) Way(p underlay.Packet) (underlay.KernelRoute, error) { return underlay.Way(p) }

// Trace implements explain.Kernel.
func (kernelWorld) Trace(p underlay.Packet) (underlay.Trace, error) { return underlay.TraceOf(p) }

// Source implements explain.Kernel.
func (kernelWorld) Source(addr netip.Addr) (underlay.KernelRoute, error) {
	return underlay.Source(addr)
}

// Gateways implements explain.Kernel.
func (kernelWorld) Gateways(addr netip.Addr) ([]underlay.Gateway, error) {
	return underlay.Gateways(addr)
}

// Device implements explain.Kernel.
func (kernelWorld) Device(name string) (underlay.LinkState, error) { return underlay.Link(name) }

// Neighbours implements explain.Kernel.
func (kernelWorld) Neighbours(dev string) ([]underlay.Neighbour, error) {
	return underlay.Neighbours(dev)
}

// linkWorld implements explain.Neighbourhood.
type linkWorld struct {
	watch  *underlay.Watcher
	probes *probe.Prober
}

// Solicit implements explain.Neighbourhood.
func (w linkWorld) Solicit(ctx context.Context, dev string, addr netip.Addr) ([]string, error) {
	var from netip.Addr
	for _, a := range w.watch.Addresses() {
		if a.Dev != dev || a.Addr.Is4() != addr.Is4() || addr.IsLinkLocalUnicast() {
			continue
		}
		if !from.IsValid() || a.Subnet.Contains(addr) {
			from = a.Addr
		}
	}
	found, err := w.probes.Solicit(ctx, dev, from, addr)
	var out []string
	for _, mac := range found {
		out = append(out, mac.String())
	}
	return out, err
}

// hostWorld implements explain.Host.
type hostWorld struct{ of *Rooms }

// obstructions are the causes of what is in the way of packets.
var obstructions = map[dataplane.Obstruction]explain.Cause{
	dataplane.ForwardingOff: explain.HostForwarding, dataplane.ReversePath: explain.HostReversePath, dataplane.IPv6Off: explain.HostIPv6Off,
	dataplane.ChainDrops: explain.HostChain, dataplane.ChainRewrites: explain.HostRewrite, dataplane.GuardLacks: explain.HostGuard,
	dataplane.ConntrackFull: explain.HostConntrack,
}

// Examine implements explain.Host.
func (w hostWorld) Examine(ctx context.Context, p explain.Passage) []explain.Hindrance {
	passage := dataplane.Passage{From: p.From, To: p.To, In: p.In, Out: p.Out, Tunnel: p.Tunnel, Node: p.Node}
	if p.Node.IsValid() {
		passage.Protocol, passage.Port = w.format(ctx, p)
	}
	var out []explain.Hindrance
	for _, h := range w.of.Host.Examine(passage) {
		out = append(out, explain.Hindrance{Cause: obstructions[h.Kind], Detail: h.Text, Fix: h.Fix, Certain: h.Certain})
	}
	return out
}

// format returns the protocol and port of the tunnel that a packet leaves or comes
// through; 0: not known.
func (w hostWorld) format(ctx context.Context, p explain.Passage) (protocol uint8, port uint16) {
	wanted, err := w.of.Tunnels(ctx)
	if err != nil {
		return 0, 0
	}
	i := slices.IndexFunc(wanted, func(d tunnel.Desired) bool {
		return p.Tunnel && d.Name == p.Out || !p.Tunnel && d.Local.Is4() == p.Node.Is4()
	})
	if i < 0 {
		return 0, 0
	}
	return wanted[i].Protocol(p.To.Is6())
}

// Recent implements explain.Host.
func (w hostWorld) Recent(v6 bool) []string { return w.of.Host.Recent(v6) }

// tunnelWorld implements explain.Tunnels.
type tunnelWorld struct{ of *Rooms }

// Tunnel implements explain.Tunnels.
func (w tunnelWorld) Tunnel(ctx context.Context, dev string, node netip.Addr) (explain.TunnelState, error) {
	wanted, err := w.of.Tunnels(ctx)
	if err != nil {
		return explain.TunnelState{}, err
	}
	i := slices.IndexFunc(wanted, func(d tunnel.Desired) bool { return d.Name == dev })
	if i < 0 {
		return explain.TunnelState{Device: []string{"no pool has it any more"}}, nil
	}
	s, err := tunnel.Examine(wanted[i], node)
	return explain.TunnelState{Text: wanted[i].String(), Format: wanted[i].Format(), Device: s.Device, Entries: s.Entries}, err
}

// podWorld implements explain.Pods.
type podWorld struct{ of *Rooms }

// Pod implements explain.Pods.
func (w podWorld) Pod(addr netip.Addr) (ipam.Assignment, bool) { return w.of.Alloc.ByAddress(addr) }

// Samples implements explain.Pods.
func (w podWorld) Samples(v6 bool, but netip.Addr) []ipam.Assignment {
	const few = 3
	var out []ipam.Assignment
	for _, as := range w.of.Alloc.Assignments() {
		has := slices.ContainsFunc(as.Addresses, func(a netip.Addr) bool { return a.Is6() == v6 })
		if has && as.Netns != "" && !slices.Contains(as.Addresses, but) && len(out) < few {
			out = append(out, as)
		}
	}
	return out
}

// Wiring implements explain.Pods.
func (w podWorld) Wiring(ctx context.Context, as ipam.Assignment) (explain.Wiring, error) {
	found, err := w.of.CNI.Examine(ctx, cni.Attachment{
		ContainerID: as.ContainerID, IfName: as.IfName, Netns: as.Netns, Namespace: as.Namespace, Pod: as.Pod, UID: as.UID,
	})
	if err != nil {
		return explain.Wiring{}, err
	}
	return explain.Wiring{Differences: found.Differences, Spoof: spoof(as.HostDevice, found.MAC)}, nil
}

// spoof compares a pod's MAC address with the only one that it may send from.
func spoof(dev string, has net.HardwareAddr) string {
	may, on, err := nft.SenderOf(dev)
	switch {
	case err != nil || !on || has == nil:
		return ""
	case may == nil:
		return "the table inet onlink-pods has no entry for " + dev
	case !bytes.Equal(may, has):
		return fmt.Sprintf("its interface has the MAC address %s, and behind %s only %s may send", has, dev, may)
	}
	return ""
}

// probeWorld implements explain.Probes.
type probeWorld struct{ *probe.Prober }

// Wire implements explain.Probes.
func (w probeWorld) Wire(ctx context.Context, dev, mac string, e probe.Echo) probe.Outcome {
	address, err := net.ParseMAC(mac)
	if err != nil {
		return probe.Outcome{Kind: probe.Skipped, Detail: err.Error()}
	}
	return w.Prober.Wire(ctx, dev, address, e)
}

// statusWorld implements explain.Status.
type statusWorld struct{ board *state.Board }

// Problems implements explain.Status.
func (w statusWorld) Problems(ctx context.Context) ([]string, error) {
	const recent = time.Second // as a scrape takes them
	s, err := w.board.Since(ctx, time.Now().Add(-recent))
	if err != nil {
		return nil, err
	}
	return s.Problems(), nil
}
