package explain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"onlink/ipam"
	"onlink/rib"
)

// answerTime bounds an answer to another agent, which waits a second.
const answerTime = 800 * time.Millisecond

// Answer is the other end of [Agents]: what this node sees of an address, for another
// node's explanation. It sends no packet, asks no third node, and does not wait for the
// registry.
func Answer(ctx context.Context, w World, q Inquiry) (Findings, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	w.Registry = atOnce{w.Registry}
	q.From, q.To = q.From.Unmap(), q.To.Unmap()
	t, err := begin(ctx, w, q.Question)
	if err != nil {
		return Findings{}, err
	}
	f := Findings{Node: w.Node}
	own, owns := w.Registry.OwnBlock(q.To)
	_, pod := w.Pods.Pod(q.To)
	switch {
	case owns || pod:
		f.Block, t.owner, t.outer = own.CIDR, w.Node, q.Tunnel
		t.walk(ctx, arrival(w, q.Peers))
	case q.Owner == w.Node:
		t.broken("owner", AnnounceBlock, "see `onlinkctl blocks` and `onlinkctl status` there: a pod with this address must be deleted, so that it gets another one",
			"no block of this node has %s: it has lost the block", q.To)
	default:
		f.Owner, f.OwnerAddresses = ownerOf(w.Registry, q.To)
		if len(q.OwnerAddresses) == 0 {
			q.Owner, q.OwnerAddresses = f.Owner, f.OwnerAddresses
		}
		p, ok := peerAt(w.Sessions.Peers(), q.OwnerAddresses)
		f.OwnerUp = ok && downText(p) == ""
		t.walk(ctx, []link{reflectLink{q, w.Sessions}})
	}
	f.Steps = t.steps
	if t.place == here && q.From.IsValid() {
		f.Back, err = wayBack(ctx, w, q)
	}
	return f, err
}

// arrival returns the links of packets that arrive for an address of this node.
func arrival(w World, peers []netip.Addr) []link {
	return []link{
		podLink{w.Node, w.Registry, w.Pods},
		announceLink{w.Sessions, w.Registry, peers},
		decisionLink{w.Host},
		routeLink{w.Kernel},
		wiringLink{w.Pods},
		hostLink{w.Registry, w.Kernel, w.Host},
	}
}

// wayBack follows the answers to where the packets come from: the decision, and what
// is not right.
func wayBack(ctx context.Context, w World, q Inquiry) ([]Step, error) {
	t, err := begin(ctx, w, Question{From: q.To, To: q.From})
	if err != nil {
		return nil, err
	}
	t.walk(ctx, []link{
		ownerLink{w.Node, w.Registry},
		pathLink{w.Registry, w.Sessions},
		decisionLink{w.Host},
		sourceLink{w.Pods},
		routeLink{w.Kernel},
		tunnelLink{w.Tunnels, q.Format},
		hostLink{w.Registry, w.Kernel, w.Host},
	})
	var out []Step
	for _, s := range t.steps {
		if s.State != OK || s.Name == "decision" {
			s.Detail = wayBackTo(q.From, s.Detail)
			out = append(out, s)
		}
	}
	return out, nil
}

// wayBackTo marks what concerns the answers.
func wayBackTo(addr netip.Addr, detail string) string {
	return fmt.Sprintf("on the way back to %s: %s", addr, detail)
}

// atOnce is a registry as the node's last answer from it: another agent waits.
type atOnce struct{ Registry }

var errNotAsked = errors.New("it was not asked: another node waits for this answer")

// Registered implements Registry.
func (r atOnce) Registered(context.Context) ([]ipam.Block, error) { return nil, errNotAsked }

// Nodes implements Registry.
func (r atOnce) Nodes(context.Context) ([]ipam.Node, error) { return nil, errNotAsked }

// ownerOf returns the node that has the block of an address, and its addresses.
func ownerOf(r Registry, addr netip.Addr) (name string, addrs []netip.Addr) {
	known, _ := r.Known()
	b, ok := blockOf(known.Blocks, addr)
	if !ok {
		return "", nil
	}
	return b.Node, addressesOf(known.Nodes, b.Node)
}

// reflectLink looks at an address that is another node's, as its routes pass this
// node: received from the owner, and announced to the node that asks.
type reflectLink struct {
	Inquiry

	sessions Sessions
}

func (l reflectLink) check(ctx context.Context, t *trail) {
	if t.known && t.route.Kind != rib.Local {
		if paths := l.sessions.Paths(ctx, t.route.Prefix); len(paths) > 0 {
			t.ok("bgp-path", "%s", pathText(paths[0]))
			l.sent(ctx, t)
			return
		}
	}
	t.known = false
	if !(pathLink{nil, l.sessions}).rejected(ctx, t) {
		l.received(t)
	}
}

// received says why this node has no path from the owner.
func (l reflectLink) received(t *trail) {
	owner := "its node"
	if l.Owner != "" {
		owner = "node " + l.Owner
	}
	what := fmt.Sprintf("no BGP path covers %s", l.To)
	p, ok := peerAt(l.sessions.Peers(), l.OwnerAddresses)
	switch {
	case len(l.OwnerAddresses) == 0:
		t.broken("bgp-path", PathAbsent, fmt.Sprintf("run `onlinkctl explain %s` on %s", l.To, owner), "%s, and its node is not known", what)
	case !ok:
		t.broken("session", SessionDown, fmt.Sprintf("see whether the agent of %s runs, and that each of the two names the other as a peer or client", owner), "%s: there is no session with %s", what, owner)
	case downText(p) != "":
		t.session(p, what, downText(p))
	default:
		t.broken("bgp-path", PathAbsent, fmt.Sprintf("run `onlinkctl explain %s` on %s", l.To, owner), "%s: the session with %s is up, and it announces no such prefix", what, owner)
	}
}

// sent says whether the node that asks receives the path.
func (l reflectLink) sent(ctx context.Context, t *trail) {
	p, ok := peerAt(l.sessions.Peers(), l.Addresses)
	if !ok {
		t.broken("session", SessionDown, fmt.Sprintf("name %s as a peer or client here", l.Node), "there is no session with %s, so it does not receive %s", l.Node, t.route.Prefix)
		return
	}
	if why := downText(p); why != "" {
		t.session(p, fmt.Sprintf("%s does not receive %s", l.Node, t.route.Prefix), why)
		return
	}
	s, err := l.sessions.Sent(ctx, p.Address, t.route.Prefix)
	switch {
	case err != nil:
		t.ok("announced", "what %s receives cannot be read: %v", l.Node, err)
	case s.Accepted:
		t.ok("announced", "%s, to %s", t.route.Prefix, l.Node)
	default:
		t.broken("announced", AnnounceRejected, "`onlinkctl peers "+peerName(p)+" advertised "+t.route.Prefix.String()+"` shows the rule: "+rejectedChange,
			"%s is not announced to %s: %s", t.route.Prefix, l.Node, s.Rule)
	}
}
