package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"onlink/agent/preflight"
	"onlink/agent/reload"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/internal/version"
	"onlink/ipam"
)

// survey publishes a snapshot each time a reader needs a newer one, until ctx
// ends.
func (a *agent) survey(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.board.Wanted():
		}
		if !a.board.Outdated() {
			continue // the snapshot published meanwhile is new enough
		}
		if s, err := a.snapshot(ctx); err == nil {
			a.board.Publish(s)
		}
	}
}

// snapshot gathers the state of the agent's parts. It fails only when ctx ends.
func (a *agent) snapshot(ctx context.Context) (*state.Snapshot, error) {
	cfg := a.current()
	s := &state.Snapshot{
		Reloads: reloads(a.reload),
		Taken:   time.Now(), Features: a.features, Notes: append(cfg.IPAM.Registry.Notes(), a.credentials.Notes(&cfg.IPAM.Registry, a.id.Name)...), Found: a.found(),
		Node: state.Node{
			Name: a.id.Name, Version: version.Get().Version, Engine: bgp.Engine(), Started: a.started,
			Address: a.id.Primary(), Address6: a.id.Address6, ASN: cfg.BGP.ASN, RouterID: a.id.RouterID,
			Reflector: cfg.BGP.Reflector != nil, Registry: string(cfg.IPAM.Registry.Kind),
		},
		Held: a.held.List(), HeldEver: a.held.Count(), Config: a.reload.Digest(), Announcements: a.announced.Sets(),
		Sessions: a.sessions(), Stations: a.stations.Status(), IPAM: a.ipamState(), CNI: a.cni.Stats(),
	}
	s.Drain, _ = a.drain.State()
	s.DrainOf = a.drain.Cause()
	s.Certificates = a.credentials.List()
	s.Notes = slices.Concat(s.Notes, a.logs.Notes(), a.cni.Notes(), version.Replaced("systemctl restart onlinkd runs the new one, routes and pods stay"))
	return s, a.learn.do(ctx, func() { s.Routes = a.learn.state() })
}

// found returns the present problems of the agent's parts.
func (a *agent) found() []string {
	out := slices.Clone(a.problems)
	for _, e := range preflight.Running(a.current().File(), a.watch.Addresses()) {
		out = append(out, fmt.Sprintf("configuration: %s: %s", e.Field, e.Text))
	}
	out = append(out, a.around.Problems(a.current())...)
	for _, part := range []interface{ Problems() []string }{
		a.reload, a.follow, &a.credentials, a.announced, a.choices, a.host, a.cni, a.installer,
	} {
		out = append(out, part.Problems()...)
	}
	return out
}

// reloads returns how the readings and changes of the configuration file ended.
func reloads(r *reload.Reloader) state.Reloads {
	record := r.Record()
	return state.Reloads{InForce: r.Trouble() == nil, At: record.At, Applied: record.Applied, Rejected: record.Rejected}
}

// sessions returns the speaker's and BFD's state of the peers.
func (a *agent) sessions() state.Sessions {
	s := state.Sessions{
		Faults: a.speaker.Faults(), Refused: a.speaker.Refused(),
		Rivals: a.speaker.Rivals(), Intrusions: a.speaker.Intrusions(), Contested: a.speaker.Contested(),
		Found: bgp.NewOperator(a.speaker).Problems(),
	}
	for _, p := range a.speaker.Peers() {
		one := state.Peer{PeerStatus: p}
		if live, watched := a.live.Session(p.Address); watched {
			one.BFD = &live
		}
		s.Peers = append(s.Peers, one)
	}
	return s
}

// ipamState returns ipam's state of this node's addresses. The blocks of other
// nodes are those of the registry's last answer: a reader of the state never
// waits for the registry.
func (a *agent) ipamState() state.IPAM {
	s := state.IPAM{
		Stats: a.alloc.Stats(), Blocks: a.alloc.Blocks(), Pools: a.alloc.PoolUsages(),
		Quarantined: a.alloc.Quarantined(), Homeless: a.alloc.Homeless(), Standing: a.alloc.Standing(),
		HalfFailed: a.registry.HalfFailed(), Database: a.store.Path(), Swept: a.garbage.Swept(),
	}
	if a.current().IPAM.Registry.Kind == ipam.RegistryBolt {
		s.Registered = a.owners.Blocks()
	}
	return s
}

// state returns the decided routes and their outcome in the kernel. It belongs to
// the learn loop.
func (l *learn) state() state.Routes {
	r := state.Routes{
		InSync: l.sync.done, Counts: l.table.Counts(), FIB: l.fib.Stats(), Converged: l.converged, Failed: l.failures(),
		Shared: l.table.Shared(), Nodes: l.plane.Nodes(), PodMTU: l.plane.PodMTU(), Problems: l.plane.Problems(),
	}
	if p := l.watch.Problem(); p != "" {
		r.Problems = append(r.Problems, p)
	}
	return r
}
