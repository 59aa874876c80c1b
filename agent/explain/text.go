package explain

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"onlink/bgp"
	"onlink/rib"
)

// unusableCause returns the cause for a route that is not in the kernel, and what
// to do.
func unusableCause(r rib.Route) (c Cause, fix string) {
	switch r.Reason { //nolint:exhaustive // the others have no next hop that is reached
	case rib.ReasonMartian, rib.ReasonForbidden, rib.ReasonCoversNextHop, rib.ReasonInsideOwnBlock, rib.ReasonHostNetwork:
		return RouteNotPermitted, "where the route is wanted, name it in `import.accept` of its peer; `onlinkctl routes` shows its announcer"
	case rib.ReasonOwnNextHop, rib.ReasonMartianHop, rib.ReasonHopInPool, rib.ReasonFamilyUnsupported:
		return NextHopUnusable, "the announcer must set a next hop that this node reaches; `onlinkctl routes` shows the announcer"
	}
	return NextHopUnreachable, "add the underlay's route to the next hop (a default route of the host), or bring its device up; `ip route get` shows the kernel's way"
}

// unusable returns why a route is not in the kernel, and what to check.
func unusable(r rib.Route) string {
	why := "has no usable next hop (%s): the underlay has no route to it"
	switch r.Reason {
	case rib.ReasonMartian:
		why = "is not installed (%s): no rule permits a route to such addresses; `onlinkctl routes` shows its announcer"
	case rib.ReasonForbidden:
		why = "is not installed (%s): it is a default route or lies in a network of this node, and `import.accept` does not name it"
	case rib.ReasonCoversNextHop:
		why = "is not installed (%s): it would take over the way to a BGP peer or next hop"
	case rib.ReasonInsideOwnBlock:
		why = "is not installed (%s): the addresses belong to a block of this node"
	case rib.ReasonHopInPool:
		why = "has no usable next hop (%s): the next hop is an address of a pool, and no route of the pool leads to it; run `onlinkctl explain` for the next hop"
	case rib.ReasonMartianHop:
		why = "has no usable next hop (%s): such an address cannot receive packets; the peer must announce its own"
	case rib.ReasonOwnNextHop:
		why = "has no usable next hop (%s): the next hop is an address of this node"
	case rib.ReasonHostNetwork:
		why = "has no drop route (%s): a network of this node, a gateway or a peer lies in it, see `onlinkctl status`"
	default:
	}
	return fmt.Sprintf("%s is known but "+why, r.Prefix, r.Reason)
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
