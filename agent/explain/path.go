package explain

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"onlink/bgp"
)

// pathLink looks for the announcement that brings the route: the paths, those that
// import rejects, and the sessions that would bring one.
type pathLink struct {
	registry Registry
	sessions Sessions
}

func (l pathLink) check(ctx context.Context, t *trail) {
	if t.lost || t.place == here || t.place == unused {
		return
	}
	t.refused = l.rejected(ctx, t)
	if !t.known && !l.registry.InPool(t.To) {
		t.place = outside
		return
	}
	if t.known {
		paths := l.sessions.Paths(ctx, t.route.Prefix)
		for _, p := range paths {
			t.ok("bgp-path", "%s", pathText(p))
			if !t.far.IsValid() && !p.Own {
				t.far, t.origin = p.NextHop, p.OriginatorID
				if !t.origin.IsValid() && !p.EBGP {
					t.origin = p.Peer
				}
			}
		}
		if len(paths) > 0 {
			l.stale(t, paths)
			return
		}
	}
	t.lost = true
	if !t.refused && !t.free {
		l.absent(t)
	}
}

// stale looks at the sessions behind the paths: a path that is kept for a peer
// without a session may be of a node that is gone, or that has forgotten us.
func (l pathLink) stale(t *trail, paths []bgp.PathInfo) {
	if slices.ContainsFunc(paths, func(p bgp.PathInfo) bool { return p.Own }) {
		return
	}
	peers := l.sessions.Peers()
	if p, ok := peerAt(peers, append([]netip.Addr{t.far}, t.nodes...)); ok {
		if why := downText(p); why != "" {
			t.suspect("session", SessionDown, sessionFix, "the path to %s is kept from a session that is not up, and that node may have no route back: %s", t.far, why)
			return
		}
	}
	if !slices.ContainsFunc(paths, func(p bgp.PathInfo) bool { return !p.Stale }) {
		t.suspect("session", SessionDown, sessionFix, "every path is stale: kept for a peer that restarts: %s", strings.Join(downSessions(peers), "; "))
	}
}

// passRefused steps over a route that a rule keeps out of the kernel, where a
// shorter one takes its packets: a rejected announcement does not break the
// chain of the address.
func (t *trail) passRefused() {
	d := t.decision
	if t.route = d.Route; d.Route.Kind.Installable() || !d.Route.Reason.Refused() || !d.Uses {
		return
	}
	t.ok("refused", "%s", unusable(d.Route))
	t.route = d.Installable
}

// rejected adds the announcements of the address that import rejects, and
// reports whether there are any. They break the chain where no other route covers
// the address.
func (l pathLink) rejected(ctx context.Context, t *trail) bool {
	found := false
	for _, r := range l.sessions.Announced(ctx, t.To) {
		if r.Verdict.Accepted {
			continue
		}
		found = true
		format := "%s next hop %s, announced by %s (%s), is rejected by the import policy: %s"
		args := []any{r.Route.Prefix, r.Route.NextHop, r.Name, r.Peer, r.Verdict.Rule}
		if t.known {
			t.ok("import", format, args...)
			continue
		}
		t.broken("import", PathRejected, fmt.Sprintf("where the route is wanted, name it in `import.accept` of peer %s, or change the filter that rejects it; `onlinkctl policy test` tries a route", r.Name), format, args...)
	}
	return found
}

// absent adds why no peer's announcement covers the address: a session that is
// down, or an owner that does not announce it.
func (l pathLink) absent(t *trail) {
	what := fmt.Sprintf("no BGP path covers %s", t.To)
	if t.known {
		what = fmt.Sprintf("no BGP path for %s any more", t.route.Prefix)
	}
	if t.owner != "" {
		what += fmt.Sprintf(" (an address of node %s)", t.owner)
	}
	peers := l.sessions.Peers()
	down := downSessions(peers)
	if p, ok := peerAt(peers, t.nodes); ok {
		if why := downText(p); why != "" {
			t.session(p, what, why)
			return
		}
		t.broken("bgp-path", PathAbsent, fmt.Sprintf("run `onlinkctl explain %s` and `onlinkctl status` on %s", t.To, t.owner),
			"%s: the session to its node %s (%s) is up, and %s does not announce it: it is drained, its export policy or a filter rejects the block, or it has lost the block", what, t.owner, p.Address, t.owner)
		return
	}
	if len(down) == 0 {
		where := "its node"
		if t.owner != "" {
			where = "node " + t.owner
		}
		t.broken("bgp-path", PathAbsent, fmt.Sprintf("run `onlinkctl explain %s` and `onlinkctl status` on %s, and on the reflector", t.To, where),
			"%s: every session of this node is up, and no peer announces it: %s is down, drained, without a session to the reflector, or its export policy or a filter rejects the block", what, where)
		return
	}
	one := firstDown(peers)
	t.session(one, what, strings.Join(down, "; "))
}

// session adds the session that is down as the reason for an absent path.
func (t *trail) session(p *bgp.PeerStatus, what, why string) {
	if p.Held != "" {
		t.broken("session", SessionHeld, fmt.Sprintf("run `onlinkctl peers %s enable` when the session may be up again", peerName(p)), "%s: %s", what, why)
		return
	}
	t.broken("session", SessionDown, sessionFix, "%s: %s", what, why)
}

// firstDown returns the first session that is not up; there is one.
func firstDown(list []bgp.PeerStatus) *bgp.PeerStatus {
	for i := range list {
		if downText(&list[i]) != "" {
			return &list[i]
		}
	}
	return &bgp.PeerStatus{}
}

func peerName(p *bgp.PeerStatus) string {
	if p.Name != "" && !p.Dynamic {
		return p.Name
	}
	return p.Address.String()
}
