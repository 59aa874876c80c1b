package agent

import (
	"context"
	"time"

	"onlink/agent/admin"
	"onlink/agent/pods"
	"onlink/bgp"
	"onlink/ipam"
	"onlink/rib"
)

// adminConfig returns the parts of this agent that the operator's API reads and
// steers.
func (a *agent) adminConfig() admin.Config {
	return admin.Config{
		Node: a.id.Name, Log: a.log, Board: a.board, World: a.world(), File: a.reload, Drainer: a.drain, Held: a.held, Namespaces: a.choices, Announcements: a.announced,
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
