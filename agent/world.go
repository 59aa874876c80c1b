package agent

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"onlink/agent/admin"
	"onlink/agent/config"
	"onlink/agent/explain"
	"onlink/agent/facts"
	"onlink/agent/forecast"
	"onlink/agent/foresight"
	"onlink/agent/glass"
	"onlink/agent/pods"
	"onlink/bgp"
	"onlink/internal/tlsfiles"
	"onlink/internal/version"
	"onlink/ipam"
	"onlink/rib"
	"onlink/tunnel"
)

// worldOf returns what explanations read. There is one: they share a budget of probes.
func worldOf(a *agent) explain.World {
	if a.explains != nil {
		return *a.explains
	}
	known := facts.Rooms{
		Node: a.id.Name, Addresses: slices.DeleteFunc([]netip.Addr{a.id.Address, a.id.Address6}, func(x netip.Addr) bool { return !x.IsValid() }), Pools: a.pools, Alloc: a.alloc, Owners: a.owners, Speaker: a.speaker, Announced: a.announced, Drain: a.drain, Watch: a.watch,
		Host: a.host, CNI: a.cni, Board: a.board, Registered: a.listRegistry, Nodes: a.listNodes, Decide: a.learn.decision, Tunnels: a.learn.tunnels,
	}
	world := known.World()
	world.Agents = admin.Asker{Port: func() netip.AddrPort { return a.current().API.Admin.TCP }, TLS: func() *tlsfiles.Keeper { return a.credentials.Admin }}
	a.explains = &world
	return world
}

// glassConfig returns the parts of this agent that the looking glass shows.
func glassConfig(a *agent) glass.Config {
	world := worldOf(a)
	return glass.Config{
		Log: a.log.With("part", "api"), Board: a.board, Sessions: bgp.NewOperator(a.speaker), Known: world.Registry.Known, Explain: explain.In(world), Uses: a.learn.uses, Routes: a.learn.routes,
	}
}

// adminConfig returns the parts of this agent that the operator's API reads and
// steers.
func (a *agent) adminConfig() admin.Config {
	tcp := func() netip.AddrPort { return a.current().API.Admin.TCP }
	return admin.Config{
		Node: a.id.Name, Log: a.log.With("part", "api"), Logs: a.logs, Board: a.board, World: worldOf(a), TCP: tcp, File: a.reload, Drainer: a.drain, Held: a.held, Namespaces: a.choices, Announcements: a.announced,
		Speaker: a.speaker, Sessions: bgp.NewOperator(a.speaker), Alloc: a.alloc, Store: a.store, Pods: a.cni, Audit: a.audit, Diags: admin.Sources{Log: a.logs.Lines(), Metrics: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { monitoring(a).ServeHTTP(w, r) }), Current: a.current, Version: version.Get().String(), Engine: bgp.Engine()}, Registry: a.registry.Registry,
		Registered: a.listRegistry, Routes: a.learn.routes, Pools: a.pools, Check: a.checkIPAM, BFD: a.live.Session,
	}
}

// forecastOf returns what an agent would do with a configuration.
func forecastOf(ctx context.Context, a *agent, next *config.Effective, items int) (*forecast.Result, error) {
	at, _ := a.drain.Now()
	live := foresight.Live{
		ID: a.id, Addresses: a.watch.Addresses, Alloc: a.alloc, Owners: a.owners, Speaker: bgp.NewOperator(a.speaker),
		Contributed: contributed, Copy: a.learn.inputs, Permit: a.learn.permitOf,
		Origins: func(own, sums []netip.Prefix) []bgp.Origin { return a.orig.origins(at, own, sums) },
	}
	return live.Forecast(ctx, next, items)
}

// inputs returns a copy of the inputs of the decision: the learn loop only copies.
func (l *learn) inputs(ctx context.Context) (in rib.Inputs, hops rib.Resolver, err error) {
	err = l.do(ctx, func() { in, hops = l.table.Inputs(), l.reaches.Clone() })
	return in, hops, err
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

// uses returns what each next hop is used for, with shown prefixes each.
func (l *learn) uses(ctx context.Context, shown int) (list []rib.Use, err error) {
	err = l.do(ctx, func() {
		failed := l.failures()
		list = l.table.Uses(shown, func(p netip.Prefix) bool { return failed[p] != "" })
	})
	return list, err
}

// decision returns the decision for an address.
func (l *learn) decision(ctx context.Context, addr netip.Addr) (explain.Decision, error) {
	var d explain.Decision
	err := l.do(ctx, func() {
		d.Route, d.Known = l.table.Lookup(addr)
		d.Installable, d.Uses = l.table.LookupInstallable(addr)
		failed := l.failures()
		d.Failed = func(p netip.Prefix) string { return failed[p] }
	})
	return d, err
}

// tunnels returns the tunnel devices that pools need.
func (l *learn) tunnels(ctx context.Context) (wanted []tunnel.Desired, err error) {
	err = l.do(ctx, func() { wanted = slices.Clone(l.plane.Wanted()) })
	return wanted, err
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

// listNodes returns the addresses of every node, or an error after
// [registryPatience].
func (a *agent) listNodes(ctx context.Context) ([]ipam.Node, error) {
	return ipam.NodesWithin(ctx, a.registry.Registry, registryPatience)
}
