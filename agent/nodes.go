package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"onlink/tunnel"
)

// nodes is what this node has to know of the others before packets flow, and
// has to forget after: who may send tunnelled packets, the entries of VXLAN
// devices, and the underlay's devices. It belongs to the learn loop.
type nodes struct {
	list       []netip.Addr // the other nodes, sorted
	generation uint64       // of the routes that list is from
	checkAt    time.Time    // when to look again though nothing changed
	surplus    bool         // entries may be there that nobody needs
	err        error        // of the last attempt, for `status`
}

// What others may have changed behind our back is looked at this often.
const nodesCheck = 8 * time.Second

// admit makes everything ready for the nodes that are known now, before their
// routes are installed, so that neither the first packet nor its answer is
// dropped. It costs nothing while no next hop changes.
func (l *learn) admit(ctx context.Context) {
	now, generation := time.Now(), l.table.Generation()
	if generation == l.nodes.generation && now.Before(l.nodes.checkAt) {
		return
	}
	l.nodes.generation, l.nodes.checkAt = generation, now.Add(nodesCheck)
	list := append(l.table.Nodes(), l.filter.kept...)
	slices.SortFunc(list, netip.Addr.Compare)
	l.nodes.list, l.nodes.surplus = slices.Compact(list), true

	err := l.filter.update(l.nodes.list, l.spread())
	if err != nil && l.filterErr == nil {
		l.log.Error("nftables table not as it should be", "err", err)
	}
	if l.filterErr = err; err != nil {
		l.nodes.checkAt = now.Add(repairEvery)
	}
	devices := l.table.Devices()
	l.devices.Store(&devices)
	errs := []error{passDeadLinks(devices)}
	for _, d := range l.vxlans() {
		errs = append(errs, l.tunnels.AddNodes(ctx, d, l.nodes.list))
	}
	l.nodesFailed(errors.Join(errs...))
}

// dismiss removes what nobody needs any more, after the routes that needed it
// are gone. What a previous run left stays until the peers have told all.
func (l *learn) dismiss(ctx context.Context) {
	if !l.sync.done || !l.nodes.surplus {
		return
	}
	l.nodes.surplus = false
	var errs []error
	for _, d := range l.vxlans() {
		errs = append(errs, l.tunnels.KeepNodes(ctx, d, l.nodes.list))
	}
	if len(l.surplus) > 0 {
		err := l.tunnels.Remove(ctx, l.surplus)
		if err == nil || errors.Is(err, tunnel.ErrForeign) {
			l.surplus, err = nil, nil // somebody else's device of that name is none of our business
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		l.nodesFailed(err)
	}
}

// nodesFailed notes the outcome of an attempt; a failed one is repeated with
// the next look at the tunnels.
func (l *learn) nodesFailed(err error) {
	if err != nil {
		l.nodes.checkAt = time.Now().Add(repairEvery)
		if l.nodes.err == nil || l.nodes.err.Error() != err.Error() {
			l.log.Warn("nodes not all reachable", "err", err)
		}
	}
	l.nodes.err = err
}

// spread names the VXLAN devices over which a node is reached that the
// underlay has several ways to.
func (l *learn) spread() []string {
	var out []string
	for _, d := range l.vxlans() {
		if slices.ContainsFunc(l.nodes.list, func(node netip.Addr) bool {
			reach, _ := l.table.ReachOf(node)
			return node.Is4() == d.Local.Is4() && reach.Hops.Len() > 1
		}) {
			out = append(out, d.Name)
		}
	}
	return out
}

// vxlans returns the VXLAN devices among the wanted ones, without those whose
// name somebody else's device has.
func (l *learn) vxlans() []tunnel.Desired {
	var out []tunnel.Desired
	for _, d := range l.wanted {
		if d.Kind == tunnel.VXLAN && !slices.Contains(l.tunnels.Foreign(), d.Name) {
			out = append(out, d)
		}
	}
	return out
}
