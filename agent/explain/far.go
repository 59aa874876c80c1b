package explain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"onlink/bgp"
	"onlink/ipam"
	"onlink/probe"
)

// askTime bounds the wait for the agents that are asked at once.
const askTime = time.Second

// Bounds of what is asked and of an answer.
const (
	maxReflectors = 4
	maxPeers      = 64
	maxSteps      = 48
	maxText       = 2 << 10 // bytes
)

// farLink asks the agents of other nodes about what this node does not see: the owner
// of the address, and where no path arrives, there or back, the reflectors between the
// two.
type farLink struct{ World }

// asked is an agent that is asked, and its answer.
type asked struct {
	name  string // of the node; "": not known
	addrs []netip.Addr
	owner bool
	Findings
	err error
}

func (l farLink) check(ctx context.Context, t *trail) {
	if l.Agents == nil {
		return
	}
	if t.place == outside && t.from.IsValid() && !t.probed {
		if name, addrs := l.nodeWith(t.To); name != "" {
			l.source(ctx, t, name, addrs)
		}
		return
	}
	if t.place != elsewhere || t.free || t.probed || !l.Registry.InPool(t.To) || !t.open() && !l.remote(t) {
		return
	}
	q := l.inquiry(t)
	list := l.targets(t, q)
	l.ask(ctx, q, list)
	if len(q.OwnerAddresses) == 0 {
		if one := told(list); one != nil {
			q.Owner, q.OwnerAddresses = one.name, one.addrs
			l.ask(ctx, q, []*asked{one})
			list = slices.Insert(list, 0, one)
		}
	}
	var witnesses []*asked
	if len(list) > 0 && refused(list[0]) && !t.lost {
		witnesses = l.reflectors(q.OwnerAddresses)
		l.ask(ctx, q, witnesses)
	}
	l.hear(ctx, t, list, witnesses)
}

// hear adds what the agents answer, the owner's first.
func (l farLink) hear(ctx context.Context, t *trail, list, witnesses []*asked) {
	for i, a := range list {
		switch silent, ok := errors.AsType[*SilentError](a.err); {
		case errors.Is(a.err, errLate):
			t.ok("far", "the answer of the agent of %s was given up, %v", a.text(), a.err)
		case errors.Is(a.err, ErrAgentsOff):
			if i == 0 {
				t.ok("far", "the agent of %s was not asked: %v; with them on every node explain names the cause there", a.text(), a.err)
			}
		case ok:
			l.silent(ctx, t, a, silent, l.alive(a, slices.Concat(list, witnesses)))
		case a.err != nil:
			t.ok("far", "the agent of %s cannot be asked: %v", a.text(), a.err)
		default:
			t.learn(a)
			if i == 0 && t.from.IsValid() && a.forgetful() {
				l.source(ctx, t, a.Node, a.addrs)
			}
		}
	}
}

// source asks the reflectors what a node receives of the block that the packets come
// from: the node itself sees no more than that it has no path back.
func (l farLink) source(ctx context.Context, t *trail, node string, addrs []netip.Addr) {
	list := l.reflectors(addrs)
	l.ask(ctx, Inquiry{Question: Question{To: t.from}, Node: node, Addresses: addrs, Owner: l.Node, OwnerAddresses: l.Addresses}, list)
	for _, a := range list {
		for i := range a.Steps {
			a.Steps[i].Detail = wayBackTo(t.from, a.Steps[i].Detail)
		}
		if a.err == nil {
			t.learn(a)
		}
	}
}

// nodeWith returns the node that has an address, as far as the registry told.
func (l farLink) nodeWith(addr netip.Addr) (name string, addrs []netip.Addr) {
	known, _ := l.Registry.Known()
	i := slices.IndexFunc(known.Nodes, func(n ipam.Node) bool { return slices.Contains(n.Addresses, addr) })
	if i < 0 {
		return "", nil
	}
	return known.Nodes[i].Name, known.Nodes[i].Addresses
}

// forgetful reports whether an agent has no path back to where the packets come from.
func (a *asked) forgetful() bool {
	return slices.ContainsFunc(a.Back, func(s Step) bool { return s.State == Broken && (s.Cause == PathAbsent || s.Cause == SessionDown) })
}

// remote reports whether packets come from another node: no probe of this one shows
// whether they pass.
func (l farLink) remote(t *trail) bool {
	if !t.From.IsValid() || t.from.IsValid() {
		return false
	}
	got, err := l.Kernel.Source(t.From)
	return err != nil || !got.Self
}

// open reports whether the cause may be on another node: no step is broken but those
// that say what is missing or lost.
func (t *trail) open() bool {
	doubt := false
	for i := range t.steps {
		s := &t.steps[i]
		vague := s.Cause.symptom() || s.Cause == PathAbsent || s.Cause == SessionDown
		if s.State == Broken && !vague {
			return false
		}
		doubt = doubt || s.State != OK && vague
	}
	return doubt
}

// inquiry returns the question to the other agents.
func (l farLink) inquiry(t *trail) Inquiry {
	q := Inquiry{Question: Question{To: t.To}, Node: l.Node, Addresses: l.Addresses, Owner: t.owner, OwnerAddresses: t.nodes}
	if len(q.OwnerAddresses) == 0 {
		q.OwnerAddresses = l.behind(t)
	}
	var inside, outside []netip.Addr
	for _, p := range l.Sessions.Peers() {
		switch {
		case p.Stranger || p.Gone:
		case p.Role == bgp.IBGP:
			inside = append(inside, p.Address)
		case p.Role == bgp.EBGP:
			outside = append(outside, p.Address)
		}
	}
	if len(inside) == 0 {
		inside = outside
	}
	q.Peers = slices.Concat(l.Addresses, inside[:min(len(inside), maxPeers)])
	remote := l.remote(t)
	if remote { // all peers count, and the reflectors send it to that node
		q.Peers = nil
		if name, addrs := ownerOf(l.Registry, t.From); len(addrs) > 0 {
			q.Node, q.Addresses = name, addrs
		}
	}
	if t.lost {
		return q // no packet arrives there
	}
	if q.From = t.from; remote {
		q.From = t.From
		return q
	}
	if got, err := l.Kernel.Source(t.To); err == nil && !q.From.IsValid() {
		q.From = got.Src
	}
	if hop := tunnelHop(t); hop.dev != "" {
		if got, err := l.Kernel.Source(hop.via); err == nil {
			q.Tunnel, q.Format = got.Src, t.format
		}
	}
	return q
}

// targets returns the agents to ask, the owner's first.
func (l farLink) targets(t *trail, q Inquiry) (list []*asked) {
	if len(t.nodes) > 0 {
		list = append(list, &asked{name: t.owner, addrs: t.nodes, owner: true})
	} else if t.far.IsValid() { // the owner, or a router before it
		list = append(list, &asked{addrs: l.behind(t)})
	}
	if t.lost {
		list = append(list, l.reflectors(q.OwnerAddresses)...)
	}
	return list
}

// behind returns the addresses of the machine behind the next hop, whose agent may
// listen at another one of them; none: there is no path.
func (l farLink) behind(t *trail) []netip.Addr {
	if !t.far.IsValid() {
		return nil
	}
	if _, addrs := l.nodeWith(t.far); len(addrs) > 0 {
		return addrs
	}
	if t.origin.IsValid() && t.origin != t.far {
		return []netip.Addr{t.far, t.origin}
	}
	return []netip.Addr{t.far}
}

// reflectors returns the agents between that of a node and this one; none: the two
// have a session.
func (l farLink) reflectors(node []netip.Addr) (list []*asked) {
	peers := l.Sessions.Peers()
	if _, direct := peerAt(peers, node); direct {
		return nil
	}
	for _, p := range peers {
		if p.Role == bgp.IBGP && !p.Stranger && !p.Gone && p.Held == "" && len(list) < maxReflectors {
			list = append(list, &asked{name: p.Name, addrs: []netip.Addr{p.Address}})
		}
	}
	return list
}

// errLate is the error of an agent that had no time to answer.
var errLate = errors.New("for want of time")

// ask asks agents at once. Without an answer when ctx ends, an agent had less than
// askTime and does not count as silent.
func (l farLink) ask(ctx context.Context, q Inquiry, list []*asked) {
	bound, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var all sync.WaitGroup
	for _, a := range list {
		all.Go(func() {
			a.Findings, a.err = l.Agents.Ask(bound, a.addrs, q)
			if silent, ok := errors.AsType[*SilentError](a.err); ok && !silent.Refused && ctx.Err() != nil {
				a.err = errLate
			}
		})
	}
	all.Wait()
}

// refused reports whether no process listens at the machine of the owner.
func refused(a *asked) bool {
	silent, ok := errors.AsType[*SilentError](a.err)
	return ok && a.owner && silent.Refused
}

// told returns the owner that an agent names; nil: none does.
func told(list []*asked) *asked {
	for _, a := range list {
		if a.err == nil && len(a.OwnerAddresses) > 0 {
			return &asked{name: a.Findings.Owner, addrs: a.Findings.OwnerAddresses, owner: true}
		}
	}
	return nil
}

// alive returns what shows that a silent agent runs; "": nothing does.
func (l farLink) alive(a *asked, list []*asked) string {
	if p, ok := peerAt(l.Sessions.Peers(), a.addrs); ok && downText(p) == "" && !p.Gone {
		return "its session with this node is up"
	}
	for _, other := range list {
		if a.owner && other.err == nil && other.OwnerUp {
			return "its session with " + other.Node + " is up"
		}
	}
	return ""
}

// silent adds that an agent does not answer. It breaks the path where the address's own
// agent is to announce it, and nothing else shows that it runs.
func (l farLink) silent(ctx context.Context, t *trail, a *asked, e *SilentError, alive string) {
	what := fmt.Sprintf("the agent of %s does not answer at %s (%v)", a.text(), e.At, e.Err)
	start := fmt.Sprintf("start the agent on %s, or see why it does not answer (`systemctl status onlinkd` there)", a.text())
	switch {
	case a.name == "":
		t.ok("far", "%s", what)
	case alive != "":
		t.ok("far", "%s, though %s: set api.admin.tcp and api.admin.tls there, and let this node reach that port", what, alive)
	case a.owner && t.lost && e.Refused:
		t.broken("far", AgentSilent, start, "%s: the machine is up, and the agent does not run or has no api.admin.tcp", what)
	case a.owner && t.lost:
		if got := l.Probes.Echo(ctx, probe.Echo{To: e.At.Addr()}); got.Kind == probe.Answered {
			t.broken("far", AgentSilent, start+", and that the network lets the port through", "%s, and the machine answers a ping: the agent hangs, or the port is filtered", what)
			return
		}
		t.broken("far", AgentSilent, fmt.Sprintf("see whether %s is up, and the network to it", a.text()), "%s, and the machine does not answer a ping: it is down or cut off", what)
	case e.Refused:
		t.suspect("far", AgentSilent, start, "%s: the machine is up, and the agent does not run or has no api.admin.tcp", what)
	default:
		t.ok("far", "%s", what)
	}
}

// text names the node of an agent.
func (a *asked) text() string {
	if a.name == "" {
		return "the node with " + a.addrs[0].String()
	}
	return "node " + a.name
}

// learn adds the findings of another agent. An announcement is in order when its path
// is here.
func (t *trail) learn(a *asked) {
	arrived := !t.lost && a.Block.IsValid() && t.route.Prefix.Bits() >= a.Block.Bits()
	steps := slices.Concat(a.Steps, a.Back)
	for i := range steps[:min(len(steps), maxSteps)] {
		s := steps[i]
		s.Sure, s.Node = false, a.Node
		s.Detail = fmt.Sprintf("on %s: %s", a.Node, cut(s.Detail))
		if s.Fix != "" {
			s.Fix = fmt.Sprintf("on %s: %s", a.Node, cut(s.Fix))
		}
		if arrived && i < len(a.Steps) && s.Cause.announces() {
			s.State, s.Cause, s.Fix = OK, "", ""
		}
		t.add(s)
	}
}

// announces reports whether a cause concerns an announcement.
func (c Cause) announces() bool {
	return slices.ContainsFunc([]string{"announce.", "session.", "path."}, func(group string) bool { return strings.HasPrefix(string(c), group) })
}

func cut(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	return text
}
