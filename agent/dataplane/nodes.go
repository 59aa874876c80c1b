package dataplane

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"onlink/tunnel"
)

// nodes tracks the other nodes, so that the kernel state which their routes
// need (guard set, VXLAN entries, settings of the underlay's devices) exists
// before a route and goes after it.
type nodes struct {
	list       []netip.Addr // the other nodes, sorted
	generation uint64       // of the routes that list is from
	checkAt    time.Time    // when to check again though nothing changed
	surplus    bool         // entries may be there that no route needs
	err        error        // of the last attempt
}

// nodesCheck is the interval at which the kernel is compared with the desired
// state though no route changed: other programs may have changed it.
const nodesCheck = 8 * time.Second

// Nodes returns how many other nodes there are.
func (p *Plane) Nodes() int { return len(p.nodes.list) }

// Recheck makes the next Admit compare the kernel with the desired state.
func (p *Plane) Recheck() { p.nodes.checkAt = time.Time{} }

// Admit makes everything ready for the nodes that are known now. It is called
// before their routes are installed, so that neither the first packet nor its
// answer is dropped. It costs nothing while no next hop changes.
func (p *Plane) Admit(ctx context.Context, routes Routes) {
	now, generation := time.Now(), routes.Generation()
	if generation == p.nodes.generation && now.Before(p.nodes.checkAt) {
		return
	}
	p.nodes.generation, p.nodes.checkAt = generation, now.Add(nodesCheck)
	list := append(routes.Nodes(), p.Filter.kept...)
	slices.SortFunc(list, netip.Addr.Compare)
	p.nodes.list, p.nodes.surplus = slices.Compact(list), true

	err := p.Filter.update(p.nodes.list, p.spread(routes))
	if err != nil && p.filterErr == nil {
		p.log.Error("failed to update nftables table", "err", err)
	}
	if p.filterErr = err; err != nil {
		p.nodes.checkAt = now.Add(RepairEvery)
	}
	devices := routes.Devices()
	p.devices.Store(&devices)
	errs := []error{passDeadLinks(devices)}
	for _, d := range p.vxlans() {
		errs = append(errs, p.tunnels.AddNodes(ctx, d, p.nodes.list))
	}
	p.nodesFailed(errors.Join(errs...))
}

// Dismiss removes the nodes that no route needs any more. It is called after
// their routes are gone. The nodes of a previous run stay until this one is in
// sync: routes to them may still come.
func (p *Plane) Dismiss(ctx context.Context, inSync bool) {
	if !inSync || !p.nodes.surplus {
		return
	}
	p.nodes.surplus = false
	var errs []error
	for _, d := range p.vxlans() {
		errs = append(errs, p.tunnels.KeepNodes(ctx, d, p.nodes.list))
	}
	if len(p.surplus) > 0 {
		err := p.tunnels.Remove(ctx, p.surplus)
		if err == nil || errors.Is(err, tunnel.ErrForeign) {
			p.surplus, err = nil, nil // a foreign device of that name is left alone
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		p.nodesFailed(err)
	}
}

// InSync ends the admission of the nodes of a previous run.
func (p *Plane) InSync() {
	p.Filter.kept = nil
	p.Recheck()
}

// nodesFailed notes the outcome of an attempt; a failed one is repeated with
// the next check of the tunnels.
func (p *Plane) nodesFailed(err error) {
	if err != nil {
		p.nodes.checkAt = time.Now().Add(RepairEvery)
		if p.nodes.err == nil || p.nodes.err.Error() != err.Error() {
			p.log.Warn("failed to set up tunnel entries of nodes", "err", err)
		}
	}
	p.nodes.err = err
}

// spread names the VXLAN devices over which a node is reached that the
// underlay has several ways to.
func (p *Plane) spread(routes Routes) []string {
	var out []string
	for _, d := range p.vxlans() {
		if slices.ContainsFunc(p.nodes.list, func(node netip.Addr) bool {
			reach, _ := routes.ReachOf(node)
			return node.Is4() == d.Local.Is4() && reach.Hops.Len() > 1
		}) {
			out = append(out, d.Name)
		}
	}
	return out
}

// vxlans returns the VXLAN devices among the desired ones, without those whose
// name a foreign device has.
func (p *Plane) vxlans() []tunnel.Desired {
	var out []tunnel.Desired
	for _, d := range p.wanted {
		if d.Kind == tunnel.VXLAN && !slices.Contains(p.tunnels.Foreign(), d.Name) {
			out = append(out, d)
		}
	}
	return out
}
