package agent

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"onlink/agent/admin"
	"onlink/agent/announce"
	"onlink/agent/config"
	"onlink/agent/drain"
	"onlink/agent/explain"
	"onlink/agent/pods"
	"onlink/bgp"
	"onlink/fib/underlay"
	"onlink/ipam"
	"onlink/rib"
)

// adminConfig returns the parts of this agent that the operator's API reads and
// steers.
func (a *agent) adminConfig() admin.Config {
	return admin.Config{
		Node: a.id.Name, Log: a.log, Board: a.board, World: world{a}, File: a.reload, Drainer: a.drain, Held: a.held, Namespaces: a.choices, Announcements: a.announced,
		Speaker: a.speaker, Sessions: bgp.NewOperator(a.speaker), Alloc: a.alloc, Store: a.store, Pods: a.cni, Audit: a.audit, Registry: a.registry.Registry,
		Registered: a.listRegistry, Routes: a.learn.routes, Pools: a.pools, Check: a.checkIPAM, BFD: a.live.Session,
	}
}

// routes calls each with every decided route and, for a route that the kernel
// does not hold, the reason.
func (l *learn) routes(ctx context.Context, each func(r rib.Route, failed string)) error {
	return l.do(ctx, func() {
		failed := l.failures()
		for r := range l.table.Routes() {
			each(r, failed[r.Prefix])
		}
	})
}

// checkIPAM compares file, memory and kernel of the running agent.
func (a *agent) checkIPAM(ctx context.Context) ([]string, error) {
	return pods.Check(ctx, a.alloc, a.cni, a.current().FIB.Table)
}

// registryPatience bounds the wait of an operator's request for the registry.
const registryPatience = 700 * time.Millisecond

// listRegistry returns every node's blocks, or an error after [registryPatience].
func (a *agent) listRegistry(ctx context.Context) ([]ipam.Block, error) {
	return ipam.ListWithin(ctx, a.registry.Registry, registryPatience)
}

// world gives an explanation the state of this node. It implements explain.World.
type world struct{ a *agent }

// Node implements explain.World.
func (w world) Node() string { return w.a.id.Name }

// InPool implements explain.World.
func (w world) InPool(addr netip.Addr) bool {
	return slices.ContainsFunc(w.a.pools(), func(p config.Pool) bool { return p.CIDR.Contains(addr) })
}

// OwnBlock implements explain.World.
func (w world) OwnBlock(addr netip.Addr) (ipam.Block, bool) {
	for _, b := range w.a.alloc.Blocks() {
		if b.Block.CIDR.Contains(addr) {
			return b.Block, true
		}
	}
	return ipam.Block{}, false
}

// Announcement implements explain.World.
func (w world) Announcement(addr netip.Addr) (explain.Announcement, bool) {
	one, owner, withheld, ok := w.a.announced.Of(addr)
	if !ok {
		return explain.Announcement{}, false
	}
	phase, _ := w.a.drain.State()
	out := explain.Announcement{
		Prefix: one.Prefix, Owner: owner, Reason: one.Reason, Peers: one.Peers, Shutdown: one.GracefulShutdown || phase == drain.Leaving,
	}
	switch {
	case withheld:
		out.Withheld = announce.WithheldReason
	case phase == drain.Drained:
		out.Withheld = "the node is drained; onlinkctl undrain ends that"
	}
	return out, true
}

// Pod implements explain.World.
func (w world) Pod(addr netip.Addr) (ipam.Assignment, bool) { return w.a.alloc.ByAddress(addr) }

// Registered implements explain.World.
func (w world) Registered(ctx context.Context) ([]ipam.Block, error) { return w.a.listRegistry(ctx) }

// Decision implements explain.World.
func (w world) Decision(ctx context.Context, addr netip.Addr) (explain.Decision, error) {
	var d explain.Decision
	l := w.a.learn
	err := l.do(ctx, func() {
		d.Route, d.Known = l.table.Lookup(addr)
		d.Installable, d.Uses = l.table.LookupInstallable(addr)
		failed := l.failures()
		d.Failed = func(p netip.Prefix) string { return failed[p] }
	})
	return d, err
}

// Paths implements explain.World.
func (w world) Paths(ctx context.Context, prefix netip.Prefix) []bgp.PathInfo {
	return w.a.speaker.Paths(ctx, prefix)
}

// Announced implements explain.World.
func (w world) Announced(ctx context.Context, addr netip.Addr) []bgp.Announced {
	return w.a.speaker.Announced(ctx, addr)
}

// Lookup implements explain.World.
func (world) Lookup(addr netip.Addr) (underlay.KernelRoute, error) { return underlay.Lookup(addr) }

// Source implements explain.World.
func (world) Source(addr netip.Addr) (underlay.KernelRoute, error) { return underlay.Source(addr) }

// Device implements explain.World.
func (world) Device(name string) error {
	_, err := underlay.Index(name)
	return err
}

// Neighbours implements explain.World.
func (world) Neighbours(dev string) ([]underlay.Neighbour, error) { return underlay.Neighbours(dev) }

// HostObstacle implements explain.World.
func (w world) HostObstacle(addr netip.Addr) string { return w.a.host.Obstacle(addr) }
