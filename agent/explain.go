package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/bgp"
	"onlink/fib"
	"onlink/fib/underlay"
	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
	"onlink/rib"
)

// explanation is the chain an address hangs on, link by link.
type explanation struct {
	addr  netip.Addr
	owner string // node that owns the block, when the registry answers
	free  bool   // in a pool, and in nobody's block
	quiet bool   // the registry did not answer: owner and free are not known
	steps []*onlinkv1.ExplainStep
}

// add appends a step and reports ok, so that a broken link ends the walk.
func (e *explanation) add(ok bool, name, format string, args ...any) bool {
	e.steps = append(e.steps, &onlinkv1.ExplainStep{Name: name, Ok: ok, Detail: fmt.Sprintf(format, args...)})
	return ok
}

// Explain implements onlinkv1.AdminServer: block owner, BGP path, decision,
// kernel route, neighbour; for a pod of this node: owner, pod, decision,
// kernel route; and for both whether the host forwards.
func (s *admin) Explain(ctx context.Context, r *onlinkv1.ExplainRequest) (*onlinkv1.ExplainReply, error) {
	addr, err := netip.ParseAddr(r.GetAddress())
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "address: %v", err)
	}
	e := &explanation{addr: addr}
	var route rib.Route
	var known bool
	var failed string
	if err := s.a.learn.do(ctx, func() {
		route, known = s.a.learn.table.Lookup(addr)
		route = e.passRefused(route, s.a.learn.table)
		failed = s.a.learn.failures()[route.Prefix]
	}); err != nil {
		return nil, err
	}
	verdict := s.a.walk(ctx, e, route, known, failed)
	if !slices.ContainsFunc(e.steps, func(s *onlinkv1.ExplainStep) bool { return !s.GetOk() }) {
		verdict = s.a.explainHost(e, verdict)
	}
	if e.quiet {
		verdict += "; not known now: which node owns its block, the registry does not answer"
	}
	ok := !slices.ContainsFunc(e.steps, func(s *onlinkv1.ExplainStep) bool { return !s.GetOk() })
	return &onlinkv1.ExplainReply{Address: addr.String(), Reachable: ok, Steps: e.steps, Verdict: verdict}, nil
}

// walk follows the chain to its end or its first broken link, and returns the
// verdict for the operator.
func (a *agent) walk(ctx context.Context, e *explanation, route rib.Route, known bool, failed string) string {
	a.explainOwner(ctx, e)
	if as, ok := a.alloc.ByAddress(e.addr); ok {
		return a.explainPod(e, as, route, known, failed)
	}
	if route.Kind == rib.Blackhole && known {
		e.add(false, "pod", "no pod of this node has %s", e.addr)
		return fmt.Sprintf("%s is in this node's block %s but assigned to no pod: packets are dropped on purpose; `onlinkctl ipam show` lists what is assigned", e.addr, route.Prefix)
	}
	refused := a.explainRefused(ctx, e, known)
	if !known && !a.inPool(e.addr) {
		return a.explainForeign(e, refused)
	}
	if !known && refused {
		return fmt.Sprintf("no path covers %s: what peers announce for it is refused by import (above)", e.addr)
	}
	if !a.explainPath(ctx, e, route, known) {
		if e.free {
			return fmt.Sprintf("%s is a free address of a pool: no node has claimed its block, so nobody announces it", e.addr)
		}
		return fmt.Sprintf("no BGP path covers %s: its node announces nothing, or a session on the way is down; see `onlinkctl peers` here and on its node", e.addr)
	}
	if !e.add(route.Kind == rib.Unicast, "decision", "%s", describe(route)) {
		return unusable(route)
	}
	if failed != "" {
		e.add(false, "kernel-route", "%s", failed)
		return fmt.Sprintf("the kernel does not hold the route for %s: %s", route.Prefix, failed)
	}
	if verdict := a.explainKernel(e, route); verdict != "" {
		return verdict
	}
	verdict := fmt.Sprintf("this node sends packets for %s %s", e.addr, describeHops(route))
	if e.owner != "" && e.owner != a.id.Name {
		verdict += fmt.Sprintf("; whether a pod has the address, `onlinkctl explain %s` on %s tells", e.addr, e.owner)
	}
	return verdict
}

// explainForeign is for addresses that are no business of onlink: the node's
// own routes decide, and the kernel knows them.
func (a *agent) explainForeign(e *explanation, refused bool) string {
	nobody := "no peer announces it"
	if refused {
		nobody = "what peers announce for it is refused by import (above)"
	}
	got, err := underlay.Source(e.addr)
	if err != nil {
		e.add(false, "kernel-route", "the kernel has no route: %v", err)
		return fmt.Sprintf("%s is in no pool, %s, and this node has no route to it", e.addr, nobody)
	}
	way := "dev " + got.Dev
	if got.Via.IsValid() {
		way = fmt.Sprintf("via %s dev %s", got.Via, got.Dev)
	}
	e.add(true, "kernel-route", "%s", way)
	return fmt.Sprintf("%s is in no pool and %s: the node's own routes send it %s", e.addr, nobody, way)
}

func (a *agent) explainOwner(ctx context.Context, e *explanation) {
	if own, ok := a.ownBlock(e.addr); ok { // known without the registry
		e.owner = a.id.Name
		e.add(true, "owner", "block %s of pool %s belongs to node %s, this one (epoch %d)", own.CIDR, own.Pool, own.Node, own.Epoch)
		return
	}
	if !a.inPool(e.addr) {
		e.add(true, "owner", "%s is outside every pool: not an address onlink assigns", e.addr)
		return
	}
	blocks, err := a.listRegistry(ctx)
	if err != nil {
		// The path still works without the registry: it is no broken link.
		e.quiet = true
		e.add(true, "owner", "unknown: the block registry does not answer (%v)", err)
		return
	}
	i := slices.IndexFunc(blocks, func(b ipam.Block) bool { return b.CIDR.Contains(e.addr) })
	switch {
	case i >= 0:
		e.owner = blocks[i].Node
		e.add(true, "owner", "block %s of pool %s belongs to node %s (epoch %d)", blocks[i].CIDR, blocks[i].Pool, blocks[i].Node, blocks[i].Epoch)
	default:
		e.free = true
		e.add(false, "owner", "no node has claimed a block that contains %s", e.addr)
	}
}

// ownBlock returns the block of this node that holds an address.
func (a *agent) ownBlock(addr netip.Addr) (ipam.Block, bool) {
	for _, b := range a.alloc.Blocks() {
		if b.Block.CIDR.Contains(addr) {
			return b.Block, true
		}
	}
	return ipam.Block{}, false
}

func (a *agent) inPool(addr netip.Addr) bool {
	for _, p := range a.pools() {
		if p.CIDR.Contains(addr) {
			return true
		}
	}
	return false
}

func (a *agent) explainPod(e *explanation, as ipam.Assignment, route rib.Route, known bool, failed string) string {
	e.add(true, "pod", "assigned to %s/%s (container %s, %s) on this node", as.Namespace, as.Pod, as.ContainerID, as.IfName)
	if !e.add(known && route.Kind == rib.Local, "decision", "%s", describe(route)) {
		return fmt.Sprintf("%s is assigned, but its pod route is unknown: the pod was not wired; look for its ADD in the agent's log", e.addr)
	}
	if _, err := underlay.Index(as.HostDevice); err != nil {
		e.add(false, "kernel-route", "%v", err)
		return fmt.Sprintf("the host end %s of the pod's veth is gone: the pod's network namespace was removed without a CNI DEL", as.HostDevice)
	}
	if failed != "" {
		e.add(false, "kernel-route", "%s", failed)
		return "the kernel does not hold the pod's route: " + failed
	}
	if verdict := a.explainKernel(e, route); verdict != "" {
		return verdict
	}
	return fmt.Sprintf("%s is the pod %s/%s on this node, behind %s", e.addr, as.Namespace, as.Pod, as.HostDevice)
}

func (a *agent) explainPath(ctx context.Context, e *explanation, route rib.Route, known bool) bool {
	if !known {
		return e.add(false, "bgp-path", "no path covers %s", e.addr)
	}
	paths := a.speaker.Paths(ctx, route.Prefix)
	if len(paths) == 0 {
		return e.add(false, "bgp-path", "no path for %s", route.Prefix)
	}
	for _, p := range paths {
		e.add(true, "bgp-path", "%s", pathText(p))
	}
	return true
}

// explainKernel compares the decision with what the kernel itself answers for
// the address, and looks at the neighbour the packet is handed to. It returns
// "" when all is well.
func (a *agent) explainKernel(e *explanation, route rib.Route) string {
	got, err := underlay.Lookup(e.addr)
	if err != nil {
		e.add(false, "kernel-route", "the kernel has no route: %v", err)
		return fmt.Sprintf("the kernel has no route to %s though one is decided; it will be repaired at the next resync", e.addr)
	}
	if got.Protocol != ownProtocol || got.Dst != route.Prefix {
		owner := fib.ProtocolName(got.Protocol)
		e.add(false, "kernel-route", "the kernel prefers %s proto %s", got.Dst, owner)
		return fmt.Sprintf("a route that is not onlink's (%s, protocol %s) takes the packets for %s; remove it or change its metric", got.Dst, owner, e.addr)
	}
	e.add(true, "kernel-route", "%s proto onlink", got.Dst)
	return a.explainNeighbours(e, route)
}

func (a *agent) explainNeighbours(e *explanation, route rib.Route) string {
	for h := range route.Hops.All() {
		if h.Tunnel || !h.Via.IsValid() {
			continue // a tunnel's outer packet follows the underlay's own routes
		}
		state := neighbourState(h.Via, h.Dev)
		if !e.add(state != unix.NUD_FAILED, "neighbour", "%s dev %s: %s", h.Via, h.Dev, nudText(state)) {
			return fmt.Sprintf("next hop %s does not answer ARP/ND on %s: that node is down or cut off from this network", h.Via, h.Dev)
		}
	}
	return ""
}

func neighbourState(addr netip.Addr, dev string) int {
	list, err := underlay.Neighbours(dev)
	if err != nil {
		return unix.NUD_NONE
	}
	for _, n := range list {
		if n.Addr == addr {
			return int(n.State)
		}
	}
	return unix.NUD_NONE
}

func nudText(state int) string {
	names := map[int]string{
		unix.NUD_NONE: "not resolved yet (no packet sent lately)", unix.NUD_INCOMPLETE: "being resolved",
		unix.NUD_REACHABLE: "reachable", unix.NUD_STALE: "known (stale)", unix.NUD_DELAY: "known (delay)",
		unix.NUD_PROBE: "being probed", unix.NUD_FAILED: "does not answer", unix.NUD_NOARP: "needs no resolution",
		unix.NUD_PERMANENT: "permanent",
	}
	if s, ok := names[state]; ok {
		return s
	}
	return fmt.Sprintf("state 0x%x", state)
}

// describe renders a decided route in one line, with its reasons.
func describe(r rib.Route) string {
	switch r.Kind {
	case rib.Unicast, rib.Local:
		return fmt.Sprintf("%s %s", r.Prefix, describeHops(r))
	case rib.Blackhole, rib.Unresolved:
	}
	return fmt.Sprintf("%s %s (%s)", r.Prefix, r.Kind, r.Reason)
}

// describeHops renders where a route sends its packets.
func describeHops(r rib.Route) string {
	var hops []string
	for h := range r.Hops.All() {
		s := "dev " + h.Dev
		if h.Via.IsValid() {
			s = fmt.Sprintf("via %s dev %s", h.Via, h.Dev)
		}
		if h.Tunnel {
			s = "through the tunnel, " + s
		} else {
			s = "directly, " + s
		}
		hops = append(hops, fmt.Sprintf("%s (%s)", s, h.Reason))
	}
	return strings.Join(hops, " and ")
}

// pathText renders a BGP path as an operator of routers reads it.
func pathText(p bgp.PathInfo) string {
	if p.Own {
		return fmt.Sprintf("%s originated here", p.Prefix)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s next hop %s from %s", p.Prefix, p.NextHop, p.Peer)
	if p.ASPath != "" {
		fmt.Fprintf(&b, ", AS path %s", p.ASPath)
	}
	fmt.Fprintf(&b, ", local-pref %d", p.LocalPref)
	if p.OriginatorID.IsValid() {
		fmt.Fprintf(&b, ", reflected for %s", p.OriginatorID)
	}
	if len(p.Communities) > 0 {
		fmt.Fprintf(&b, ", communities %s", strings.Join(p.Communities, " "))
	}
	for _, flag := range []struct {
		on   bool
		text string
	}{{p.Stale, ", stale (its peer restarts)"}, {p.Best, ", best"}} {
		if flag.on {
			b.WriteString(flag.text)
		}
	}
	return b.String()
}
