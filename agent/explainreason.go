package agent

import (
	"fmt"

	"onlink/rib"
)

// passRefused steps over a route that a rule keeps out of the kernel, where a
// shorter one takes its packets: what somebody announces without success is no
// broken link of the address.
func (e *explanation) passRefused(route rib.Route, table *rib.Table) rib.Route {
	used, ok := table.LookupInstallable(e.addr)
	if route.Kind != rib.Unresolved || !route.Reason.Refused() || !ok {
		return route
	}
	e.add(true, "refused", "%s", unusable(route))
	return used
}

// unusable says why a route is not in the kernel, and what to look at.
func unusable(r rib.Route) string {
	why := "has no usable next hop (%s): the underlay has no route to it; see `ip route get` for the next hop"
	switch r.Reason {
	case rib.ReasonMartian:
		why = "is not installed (%s): no rule permits a route to such addresses; look who announces it with `onlinkctl routes`"
	case rib.ReasonForbidden:
		why = "is not installed (%s): it is a default route or lies in a network of this node; `import.accept` must name it"
	case rib.ReasonCoversNextHop:
		why = "is not installed (%s): it would take over the way to a BGP peer or next hop"
	case rib.ReasonInsideOwnBlock:
		why = "is not installed (%s): the addresses belong to a block of this node"
	case rib.ReasonHopInPool:
		why = "has no usable next hop (%s): the next hop is an address of a pool, and no route of the pool leads there; ask `onlinkctl explain` for the next hop"
	case rib.ReasonMartianHop:
		why = "has no usable next hop (%s): no packet may be handed to such an address; the peer must announce itself"
	case rib.ReasonOwnNextHop:
		why = "has no usable next hop (%s): the next hop is an address of this node"
	case rib.ReasonHostNetwork:
		why = "has no drop route (%s): a network of this node, a gateway or a peer lies in it, see `onlinkctl status`"
	default:
	}
	return fmt.Sprintf("%s is known but "+why, r.Prefix, r.Reason)
}
