package explain

import (
	"context"
	"fmt"
	"net/netip"

	"onlink/rib"
)

// Decider is the learn flow.
type Decider interface {
	// Decision returns the decision for an address.
	Decision(ctx context.Context, addr netip.Addr) (Decision, error)
}

// decisionLink looks at the decided route, and whether it could be installed.
type decisionLink struct{ host Host }

func (l decisionLink) check(ctx context.Context, t *trail) {
	if t.lost || t.place == outside || t.place == unused {
		t.lost = t.lost || t.place == unused
		return
	}
	if t.place == here && (!t.known || t.route.Kind != rib.Local) {
		t.lost = true
		t.broken("decision", PodUnwired, "see the pod's ADD in the agent's log; delete the pod, so that its runtime makes it anew",
			"%s is assigned, but its pod route is unknown (%s): the pod was not wired", t.To, describe(t.route))
		return
	}
	if t.place == elsewhere && t.route.Kind != rib.Unicast {
		t.lost = true
		c, fix := unusableCause(t.route)
		t.broken("decision", c, fix, "%s", unusable(t.route))
		return
	}
	t.ok("decision", "%s", describe(t.route))
	for h := range t.route.Hops.All() {
		t.hops = append(t.hops, way{via: h.Via, dev: h.Dev, tunnel: h.Tunnel})
	}
	if t.failed = t.decision.Failed(t.route.Prefix); t.failed != "" {
		t.lost = true
		if l.off(ctx, t) {
			return
		}
		t.broken("kernel-route", RouteRefused, "remove what is in the way; the agent tries again within a minute",
			"the kernel does not hold the route for %s: %s", t.route.Prefix, t.failed)
		return
	}
	if t.place == here {
		t.good = fmt.Sprintf("%s is the pod %s/%s on this node, behind %s", t.To, t.pod.Namespace, t.pod.Pod, t.pod.HostDevice)
		return
	}
	t.good = fmt.Sprintf("this node sends packets for %s %s", t.To, describeHops(t.route))
}

// off adds that a device of the route takes no IPv6 packet: then the kernel takes no
// route of it either.
func (l decisionLink) off(ctx context.Context, t *trail) bool {
	devices := []string{t.pod.HostDevice}
	if t.place != here {
		devices = nil
		for _, h := range t.hops {
			devices = append(devices, h.dev)
		}
	}
	for _, dev := range devices {
		for _, h := range l.host.Examine(ctx, Passage{To: t.To, Out: dev}) {
			if h.Cause == HostIPv6Off {
				t.broken("decision", h.Cause, h.Fix, "%s, so the kernel does not hold the route for %s", h.Detail, t.route.Prefix)
				return true
			}
		}
	}
	return false
}
