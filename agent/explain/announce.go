package explain

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"onlink/bgp"
)

// Sessions is the state of BGP on this node.
type Sessions interface {
	// Peers returns the state of all sessions.
	Peers() []bgp.PeerStatus
	// Paths returns the BGP paths of exactly a prefix, best first.
	Paths(ctx context.Context, prefix netip.Prefix) []bgp.PathInfo
	// Announced returns the peers' announcements of the prefixes around an
	// address, with the verdict of import.
	Announced(ctx context.Context, addr netip.Addr) []bgp.Announced
	// Exports returns the verdict of export on an own prefix, of each peer with a
	// session, or of those of the peers alone that are named.
	Exports(ctx context.Context, prefix netip.Prefix, only []netip.Addr) []Export
	// Sent returns whether a peer receives exactly a prefix, or the rule that keeps it
	// back.
	Sent(ctx context.Context, peer netip.Addr, prefix netip.Prefix) (Export, error)
	// Announcement returns the prefix around an address that this node announces
	// for an owner, such as services.
	Announcement(addr netip.Addr) (Announcement, bool)
	// Withdrawn returns why this node withdraws its own prefixes; "": it does not.
	Withdrawn() string
}

// Export is the verdict of export towards one peer.
type Export struct {
	Peer     string
	Accepted bool
	Rule     string
}

// Announcement is a prefix that this node announces for an owner.
type Announcement struct {
	Prefix   netip.Prefix
	Owner    string
	Reason   string   // of the owner; "": none
	Peers    []string // the only ones that receive it; empty: all
	Shutdown bool     // with GRACEFUL_SHUTDOWN (RFC 8326)
	Withheld string   // why no peer receives it yet; "": they do
	Drained  string   // why no peer receives it any more; "": they do
}

// announceLink looks at what others see of an address of this node: the block of
// a pod here, or a prefix for an owner, such as services.
type announceLink struct {
	sessions Sessions
	registry Registry
	// towards are the peers that another node would receive the block from; none: all
	// peers are looked at.
	towards []netip.Addr
}

func (l announceLink) check(ctx context.Context, t *trail) {
	if t.place == here {
		l.block(ctx, t)
		return
	}
	a, ok := l.sessions.Announcement(t.To)
	if !ok || t.place == unused {
		return
	}
	t.place, t.lost = announced, true // nothing of onlink answers for it here
	text := fmt.Sprintf("%s is announced by this node for %s", a.Prefix, a.Owner)
	if a.Reason != "" {
		text += fmt.Sprintf(" (%s)", a.Reason)
	}
	if len(a.Peers) > 0 {
		text += ", to " + strings.Join(a.Peers, ", ") + " alone"
	}
	if a.Shutdown {
		text += ", with GRACEFUL_SHUTDOWN"
	}
	switch {
	case a.Withheld != "":
		t.broken("announced", AnnounceWithheld, "the owner must send its announcements again; see whether it runs", "%s, but withheld: %s", text, a.Withheld)
		return
	case a.Drained != "":
		t.broken("announced", AnnounceDrained, "run `onlinkctl undrain` when the node may have traffic again", "%s, but withdrawn: %s", text, a.Drained)
		return
	}
	t.ok("announced", "%s", text)
	t.good = fmt.Sprintf("this node attracts the packets for %s, and its service proxy (such as kube-proxy) must answer them", t.To)
}

// block looks at the announcement of the block of a pod of this node.
func (l announceLink) block(ctx context.Context, t *trail) {
	b, ok := l.registry.OwnBlock(t.To)
	if !ok {
		return
	}
	if !b.Confirmed {
		t.broken("announced", AnnounceBlock, "see the block in `onlinkctl status`; pods of a block that another node owns now must be deleted",
			"block %s is not confirmed to be this node's, so it is not announced and other nodes do not reach %s", b.CIDR, t.To)
		return
	}
	if why := l.sessions.Withdrawn(); why != "" {
		t.broken("announced", AnnounceDrained, "run `onlinkctl undrain` when the node may have traffic again", "block %s is withdrawn: %s: other nodes do not reach %s", b.CIDR, why, t.To)
		return
	}
	peers, only, everyone := l.sessions.Peers(), []netip.Addr(nil), "every peer"
	if common := slices.DeleteFunc(slices.Clone(peers), func(p bgp.PeerStatus) bool { return !slices.Contains(l.towards, p.Address) }); len(common) > 0 {
		peers, only, everyone = common, l.towards, "every peer that brings it to the asking node"
	}
	list := l.sessions.Exports(ctx, b.CIDR, only)
	var carried, rejected []string
	for _, e := range list {
		if e.Accepted {
			carried = append(carried, e.Peer)
		} else {
			rejected = append(rejected, fmt.Sprintf("%s (%s)", e.Peer, e.Rule))
		}
	}
	down := downSessions(peers)
	switch {
	case len(carried) > 0 && len(rejected) > 0:
		t.suspect("announced", AnnounceRejected, rejectedFix, "block %s is announced to %s; export rejects it towards %s",
			b.CIDR, strings.Join(carried, ", "), strings.Join(rejected, ", "))
	case len(carried) > 0:
		t.ok("announced", "block %s, to %s", b.CIDR, strings.Join(carried, ", "))
	case len(rejected) > 0:
		t.broken("announced", AnnounceRejected, rejectedFix,
			"export rejects block %s towards %s, so other nodes do not reach %s: %s", b.CIDR, everyone, t.To, strings.Join(rejected, ", "))
		return
	case len(down) > 0:
		t.broken("announced", AnnounceSessions, sessionFix, "no session is up that carries block %s to other nodes: %s", b.CIDR, strings.Join(down, "; "))
		return
	}
	if len(down) > 0 {
		t.suspect("session", SessionDown, sessionFix, "%s", strings.Join(down, "; "))
	}
}

const (
	sessionFix  = "mend the session: compare both ends, `onlinkctl peers NAME` and in `onlinkctl config show` the peer's address, asn and passwordFile; after a change it takes some seconds to come up"
	rejectedFix = "`onlinkctl config show` has the rule: " + rejectedChange

	rejectedChange = "change the filter with `onlinkctl config set-filter`, or the peer's `export` with `onlinkctl config set-peer`"
)

// downSessions describes the sessions that are not up, one text each.
func downSessions(list []bgp.PeerStatus) []string {
	var out []string
	for i := range list {
		if text := downText(&list[i]); text != "" {
			out = append(out, text)
		}
	}
	return out
}

// downText describes a session that is not up, with its last error in words; "":
// it is up.
func downText(p *bgp.PeerStatus) string {
	const up = "Established"
	if p.State == up && p.Held == "" || p.Stranger && !p.Speaks {
		return ""
	}
	name := p.Address.String()
	if p.Name != "" && p.Name != name {
		name = fmt.Sprintf("%s (%s)", p.Name, p.Address)
	}
	switch {
	case p.Stranger:
		return fmt.Sprintf("connections from %s are rejected: %s", name, p.LastError)
	case p.Held != "":
		return fmt.Sprintf("the session to %s is held down: %s", name, p.Held)
	case p.LastError != "":
		return fmt.Sprintf("the session to %s is %s: %s", name, p.State, p.LastError)
	}
	return fmt.Sprintf("the session to %s is %s", name, p.State)
}

// peerAt returns the session to one of a node's addresses.
func peerAt(list []bgp.PeerStatus, addrs []netip.Addr) (*bgp.PeerStatus, bool) {
	i := slices.IndexFunc(list, func(p bgp.PeerStatus) bool { return slices.Contains(addrs, p.Address) })
	if i < 0 {
		return nil, false
	}
	return &list[i], true
}
