package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"onlink/bgp"
	onlinkv1 "onlink/proto/v1"
	"onlink/rib"
)

// feature is a part of the system that onlink uses where it is present.
type feature struct {
	name      string
	available bool
	without   string // what the agent does without it
}

// problem notes something an operator should change; it is shown in `status`
// until the agent restarts.
func (a *agent) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	a.problems = append(a.problems, text)
	a.log.Warn("problem found", "problem", text)
}

// status is the agent at a glance.
func (a *agent) status(ctx context.Context) (*onlinkv1.Status, error) {
	cfg := a.current()
	st := &onlinkv1.Status{
		Node: a.id.Name, Version: version(), Gobgp: bgp.Engine(), Started: timestamppb.New(a.started),
		Address: a.id.primary().String(), Asn: cfg.BGP.ASN, RouterId: a.id.RouterID.String(),
		Reflector: cfg.BGP.Reflector != nil, Registry: string(cfg.IPAM.Registry.Kind),
		Problems: slices.Clone(a.problems), Notes: a.registryNotes(),
	}
	for _, f := range a.features {
		w := &onlinkv1.Feature{Name: f.name, Available: f.available}
		if !f.available {
			w.Detail = f.without
		}
		st.Features = append(st.Features, w)
	}
	if err := a.reload.Trouble(); err != nil {
		st.Problems = append(st.Problems, "the changed configuration is not in force: "+strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	for _, p := range cfg.BGP.Peers {
		if p.Unnumbered && !p.Address.IsValid() {
			st.Problems = append(st.Problems, fmt.Sprintf("peer %s: nobody is found at the other end of %s: is the cable in, and IPv6 on there?", p.Name, p.Interface))
		}
	}
	if p := a.follow.problem(); p != "" {
		st.Problems = append(st.Problems, p)
	}
	st.Problems = append(st.Problems, a.overlapProblems()...)
	st.Problems = append(st.Problems, a.host.problems()...)
	told, _ := a.drain.state()
	st.Drain = told.String()
	if told != serving {
		st.Problems = append(st.Problems, "the node is "+st.Drain+": its prefixes are not used by others until onlinkctl undrain")
	}
	a.statusOfPeers(st)
	for _, b := range a.alloc.Blocks() {
		st.Blocks++
		st.AddressesUsed += uint32(b.Used)  //nolint:gosec // bounded by the block size
		st.AddressesTotal += uint32(b.Size) //nolint:gosec // bounded by the block size
	}
	st.Problems = append(st.Problems, a.cni.Problems()...)
	if text := a.unchained.Load(); text != nil && *text != "" {
		st.Problems = append(st.Problems, *text)
	}
	st.Problems = append(st.Problems, a.ipamProblems(ctx)...)
	contested, err := a.contested(ctx)
	if err != nil {
		return st, err
	}
	st.Problems = append(st.Problems, contested...)
	return st, a.learn.do(ctx, func() { a.learn.fill(st) })
}

// fill adds what only the learn loop knows.
func (l *learn) fill(st *onlinkv1.Status) {
	c := l.table.Counts()
	st.RoutesUnicast = uint32(c.ByKind[rib.Unicast])       //nolint:gosec // a count of routes
	st.RoutesTunnelled = uint32(c.Tunnelled)               //nolint:gosec // a count of routes
	st.RoutesUnresolved = uint32(c.ByKind[rib.Unresolved]) //nolint:gosec // a count of routes
	failed := l.failures()
	st.RoutesFailed = uint32(len(failed)) //nolint:gosec // a count of routes
	for prefix, why := range failed {
		st.Problems = append(st.Problems, fmt.Sprintf("route %s: %s", prefix, why))
	}
	slices.Sort(st.Problems)
	st.FibDrift = l.fib.Stats().Drift
	st.InSync = l.sync.done
	st.Phase = "syncing"
	if l.sync.done {
		st.Phase = "ready"
	}
	if l.tunnelErr != nil {
		st.Problems = append(st.Problems, "tunnel: "+l.tunnelErr.Error())
	}
	if l.nodes.err != nil {
		st.Problems = append(st.Problems, "nodes: "+l.nodes.err.Error())
	}
	if l.filterErr != nil {
		st.Problems = append(st.Problems, "nftables: "+l.filterErr.Error())
	}
	if p := l.watch.Problem(); p != "" {
		st.Problems = append(st.Problems, p)
	}
}

// failures says, for every route that is decided and not in the kernel, why.
func (l *learn) failures() map[netip.Prefix]string {
	out := map[netip.Prefix]string{}
	for _, f := range l.fib.Failures() {
		out[f.Prefix] = f.Err.Error()
		if f.OwnerProtocol != "" {
			out[f.Prefix] = fmt.Sprintf("%v: proto %s; remove that route or set fib.metric", f.Err, f.OwnerProtocol)
		}
	}
	return out
}

// podMTU is what a pod's interface gets: the smallest of the tunnels' MTUs, or
// the underlay's when no tunnel is used. 0 leaves it to the kernel.
func (a *agent) podMTU() int { return int(a.learn.podMTU.Load()) }
