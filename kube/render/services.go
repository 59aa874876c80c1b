package render

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"onlink/kube/api/v1alpha1"
)

// States of an address of a Service.
const (
	stateAnnounced    = "announced"
	stateGraceful     = "graceful-shutdown"
	stateAggregated   = "aggregated"
	stateNotAnnounced = "not-announced"
	stateConflict     = "conflict"
)

// announcer decides about the addresses of Services on this node.
type announcer struct {
	l        *ledger
	self     *self
	pools    *poolSet
	draining bool
	excluded bool // the node's label excludes it from external load balancers
	forwards func(netip.Addr, *corev1.Service) bool

	here     map[string]bool // BGPPeers with a session here: includeExcludedNodes
	machines map[netip.Addr]string
	inForce  map[netip.Prefix]*Announcement

	single     []placed
	aggregates aggregates
}

// placed is an announcement and its prefix, by which they are put in order.
type placed struct {
	prefix netip.Prefix
	ann    Announcement
}

// renderServices decides which addresses of Services this node announces.
func renderServices(in *Input, s *self, f *file, peers *peerSet, pools *poolSet, l *ledger) {
	advs := chooseAdvertisements(in, s, peers, l)
	l.out.NeedsServices = len(advs) > 0
	l.out.Unlisted = l.out.NeedsServices && in.Services == nil
	if !l.out.NeedsServices {
		return
	}
	_, excluded := s.labels[corev1.LabelNodeExcludeBalancers]
	a := &announcer{
		l: l, self: s, pools: pools, draining: in.Draining, excluded: excluded, forwards: in.Forwards, here: map[string]bool{},
		machines: machines(in, f), inForce: map[netip.Prefix]*Announcement{},
	}
	a.aggregates = aggregates{l: l, pools: pools, machines: a.machines, unfit: map[netip.Prefix]string{}, joined: map[netip.Prefix]*aggregate{}}
	for _, p := range peers.list {
		a.here[p.Name] = peers.excluded[p.Name]
	}
	for i := range in.Announced {
		if p, err := netip.ParsePrefix(in.Announced[i].Prefix); err == nil {
			a.inForce[p.Masked()] = &in.Announced[i]
		}
	}
	claims := candidates(in, advs, s.name)
	addrs := make([]netip.Addr, 0, len(claims))
	for addr := range claims {
		addrs = append(addrs, addr)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	for _, addr := range addrs {
		a.decide(addr, claims[addr])
	}
	a.finish()
}

// machines returns the addresses that no Service can have: those of Nodes and of
// peers. An announcement would attract their packets.
func machines(in *Input, f *file) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for _, p := range f.BGP.Peers {
		if a, err := netip.ParseAddr(p.Address); err == nil {
			out[a.Unmap().WithZone("")] = "peer " + p.Name
		}
	}
	if f.BGP.Mesh != nil { // of one that is too large there are no Nodes here, and of a machine that lingers neither
		for _, n := range f.BGP.Mesh.Nodes {
			if a, err := netip.ParseAddr(n.Address); err == nil {
				out[a] = "node " + n.Name
			}
		}
	}
	for _, n := range byAge(slices.Concat(in.Nodes, in.Reflectors, []*corev1.Node{in.Node}), nodeMeta) {
		for _, addr := range n.Status.Addresses {
			if a, err := netip.ParseAddr(addr.Address); err == nil {
				out[a.Unmap()] = "node " + n.Name
			}
		}
	}
	return out
}

// because records what decides about an address; of several Services with it the one
// that decides by itself.
func (a *announcer) because(addr netip.Addr, r Reason) {
	a.l.out.Reasons[addr] = max(a.l.out.Reasons[addr], r)
}

// report records the decision about an address.
func (a *announcer) report(addr netip.Addr, c *candidate, state, why string) {
	a.because(addr, ReasonElsewhere)
	a.l.out.Services = append(a.l.out.Services, v1alpha1.NodeService{Address: addr.String(), Service: c.name(), State: state, Why: why})
}

// order puts the decisions about one address in the order of their Services.
func (a *announcer) order(from int) {
	slices.SortStableFunc(a.l.out.Services[from:], func(x, y v1alpha1.NodeService) int { return cmp.Compare(x.Service, y.Service) })
}

// decide decides about one address: by reference count over the Services that may
// have it. Of several the one that wants most decides, and the oldest of the
// advertisements gives the attributes.
func (a *announcer) decide(addr netip.Addr, list []candidate) {
	defer a.order(len(a.l.out.Services))
	if text := a.conflict(addr); text != "" {
		for i := range list {
			if c := &list[i]; c.selected() && (i == 0 || list[i-1].svc != c.svc) {
				a.report(addr, c, stateConflict, text)
			}
		}
		return
	}
	if live := a.living(addr, list); len(live) > 0 {
		a.judge(addr, live)
	}
}

// living returns the candidates that may announce the address, and reports about
// the others. An assigned address is its Service's: externalIPs, which every user can
// write who can write a Service, take it from none, not even from a younger one.
func (a *announcer) living(addr netip.Addr, list []candidate) (live []*candidate) {
	var holders []*candidate
	list = slices.SortedStableFunc(slices.Values(list), func(x, y candidate) int { return compareBool(!x.assigned(), !y.assigned()) })
	for i := range list {
		c := &list[i]
		h, text := c.rivalOf(holders)
		switch {
		case headless(c.svc):
			if c.selected() {
				a.report(addr, c, stateNotAnnounced, "not announced: kube-proxy does not forward externalIPs of a headless Service: write them into another one with a cluster IP")
			}
		case h == nil:
			holders = append(holders, c)
			if a.permits(addr, c) {
				c.waits = a.waits(addr, c)
				live = append(live, c)
			}
		case c.selected(), h.selected() && h.assigned() && !c.assigned(): // kube-proxy may forward to an unselected one too
			a.report(addr, c, stateConflict, fmt.Sprintf("%s %s", addr, text))
		}
	}
	return live
}

// permits reports whether the Service that has an address may announce it, and reports
// why not.
func (a *announcer) permits(addr netip.Addr, c *candidate) bool {
	switch {
	case !c.selected():
		if c.kind == v1alpha1.AddressLoadBalancer && c.never == "" {
			a.report(addr, c, stateNotAnnounced, "not announced: no ServiceAdvertisement of this node selects the Service")
		}
	case c.never != "":
		a.because(addr, ReasonService)
		a.report(addr, c, stateNotAnnounced, "not announced: "+c.never)
	case !c.assigned() && !a.forServices(addr, c):
		a.report(addr, c, stateNotAnnounced, fmt.Sprintf("not announced: %s of spec.externalIPs is inside no IPPool with uses: [LoadBalancer]: "+
			"create one around it (with manual: true no Service gets an address of it by itself), or remove it", addr))
	default:
		return true
	}
	return false
}

// waits reports whether an address must not be announced before the service proxy
// of this node forwards: with policy Local to the endpoints here, of which it learns
// when this process does, and which it applies up to a second later; with Cluster at
// all, as on a node where it has not started yet. It drops what comes before. An
// address in force stays: it has endpoints, or the proxy still has those that
// terminate.
func (a *announcer) waits(addr netip.Addr, c *candidate) bool {
	if a.forwards == nil || c.local && c.counts.readyHere == 0 || a.isInForce(addr, c) {
		return false
	}
	if verdict, _ := c.judge(); verdict == withdraw {
		return false
	}
	svc := c.svc
	if !c.local && svc.Spec.HealthCheckNodePort != 0 { // which answers no while there is no endpoint here
		plain := *svc
		plain.Spec.HealthCheckNodePort = 0
		svc = &plain
	}
	return !a.forwards(a.self.first, svc)
}

// forServices reports whether an address of externalIPs may be announced. Every user
// who can write a Service can write any address there: without the range of an
// administrator he would attract the packets of others, also of a Node that this one
// does not know of. In force stays what a rejected pool, or the end of all, leaves
// unsure.
func (a *announcer) forServices(addr netip.Addr, c *candidate) bool {
	if _, ok := a.pools.forServices(addr); ok {
		return true
	}
	return a.pools.unsureOf(addr) && a.isInForce(addr, c)
}

// isInForce reports whether an address is announced now: by itself, or with policy
// Cluster as a part of an aggregate.
func (a *announcer) isInForce(addr netip.Addr, c *candidate) (ok bool) {
	if c.local {
		_, ok = a.inForce[host(addr)]
	} else {
		_, ok = a.around(host(addr))
	}
	return ok
}

// conflict returns why no Service can have an address; "": one can.
func (a *announcer) conflict(addr netip.Addr) string {
	if who, ok := a.machines[addr]; ok {
		return fmt.Sprintf("%s is the address of %s, which is reached without an announcement: give the Service another", addr, who)
	}
	if pool, ok := a.pools.forPods(addr); ok {
		return fmt.Sprintf("%s is inside IPPool %s, which belongs to pods: give the Service another address, or take it from a pool with uses: [LoadBalancer] alone", addr, pool)
	}
	if i := slices.IndexFunc(unrouted, func(p netip.Prefix) bool { return p.Contains(addr) }); i >= 0 {
		return fmt.Sprintf("%s is inside %s, whose addresses are not routed: give the Service another", addr, unrouted[i])
	}
	return ""
}

// tally is what the candidates of an address come to.
type tally struct {
	verdict verdict
	why     string
	local   bool             // one of them has policy Local
	advs    []*advertisement // of those that want it announced, in order
}

func count(live []*candidate) tally {
	t := tally{}
	by := live[0]
	for _, c := range live {
		v, text := c.judge()
		if t.why == "" || v > t.verdict {
			t.verdict, t.why, by = v, text, c
		}
		t.local = t.local || c.local
		if v > withdraw {
			t.advs = append(t.advs, c.wanting()...)
		}
	}
	if n := services(live); n > 1 {
		t.why += fmt.Sprintf(" (%s; the address has %d Services)", by.name(), n)
	}
	t.advs = inOrder(t.advs)
	return t
}

// judge decides about an address of Services that may have it.
func (a *announcer) judge(addr netip.Addr, live []*candidate) {
	first, t := live[0], count(live)
	if t.verdict == withdraw {
		a.because(addr, ReasonService)
		a.report(addr, first, stateNotAnnounced, "not announced: "+t.why)
		return
	}
	ann, none := a.announcement(addr, t.advs)
	if none != "" {
		a.because(addr, ReasonNode)
		a.report(addr, first, stateNotAnnounced, "not announced: "+none)
		return
	}
	a.because(addr, ReasonService)
	why := t.why
	if a.draining {
		why = "this node is being drained; " + why
	}
	if t.verdict == announce && !t.local {
		if p := a.aggregateOf(addr, t.advs[0]); a.aggregates.fit(p, t.advs[0].name) {
			a.aggregates.join(p, ann)
			a.report(addr, first, stateAggregated, fmt.Sprintf("announced as part of %s: %s", p, why))
			return
		}
	}
	state, text := stateAnnounced, "announced: "
	if ann.GracefulShutdown = a.draining || t.verdict == lastResort; ann.GracefulShutdown {
		state, text = stateGraceful, "announced with GRACEFUL_SHUTDOWN: "
	}
	if len(ann.Peers) > 0 {
		why += ", to " + strings.Join(ann.Peers, ", ")
	}
	ann.Reason = first.name() + ": " + why
	a.single = append(a.single, placed{host(addr), ann.final()})
	a.report(addr, first, state, text+why)
}

// announcement returns the announcement of an address by advertisements, without
// its reason; or why there is none.
func (a *announcer) announcement(addr netip.Addr, advs []*advertisement) (ann Announcement, none string) {
	if !a.self.has(addr) {
		return ann, "this node has no InternalIP of the address's family, which would be the next hop"
	}
	ann, ok := a.attributes(host(addr), advs)
	if !ok {
		return ann, fmt.Sprintf("ServiceAdvertisement %s is rejected, see its status, and did not announce the address before", advs[0].name)
	}
	ann.Peers, none = a.receivers(a.audience(host(addr), advs))
	return ann, none
}

// services returns the number of Services among candidates.
func services(list []*candidate) int {
	seen := map[*corev1.Service]bool{}
	for _, c := range list {
		seen[c.svc] = true
	}
	return len(seen)
}

// inOrder returns advertisements in the order of their age, those that are not broken
// first: the first gives the attributes.
func inOrder(list []*advertisement) []*advertisement {
	return slices.SortedStableFunc(slices.Values(list), func(x, y *advertisement) int {
		return cmp.Or(compareBool(x.frozen, y.frozen), cmp.Compare(x.rank, y.rank))
	})
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// attributes returns the announcement of a prefix by the first of its
// advertisements. It reports false for a broken one that did not announce it yet.
func (a *announcer) attributes(p netip.Prefix, advs []*advertisement) (Announcement, bool) {
	first := advs[0]
	if !first.frozen {
		return Announcement{Prefix: p.String(), Communities: first.communities, LocalPref: first.localPref, MED: first.med}, true
	}
	was, ok := a.around(p)
	if !ok {
		return Announcement{}, false
	}
	out := Announcement{Prefix: p.String(), Communities: was.Communities, LocalPref: was.LocalPref, MED: was.MED, Peers: was.Peers}
	if was.GracefulShutdown {
		out.LocalPref = nil // 0 for the shutdown alone
	}
	return out, true
}

// around returns the announcement in force that a prefix is inside, the longest.
func (a *announcer) around(p netip.Prefix) (*Announcement, bool) {
	for bits := p.Bits(); bits > 0; bits-- {
		if was, ok := a.inForce[netip.PrefixFrom(p.Addr(), bits).Masked()]; ok {
			return was, true
		}
	}
	return nil, false
}

// aggregateOf returns the prefix in place of an address, as an advertisement has it;
// invalid: none.
func (a *announcer) aggregateOf(addr netip.Addr, adv *advertisement) netip.Prefix {
	bits := adv.aggregate.IPv6
	if addr.Is4() {
		bits = adv.aggregate.IPv4
	}
	switch {
	case adv.frozen:
		if was, ok := a.around(host(addr)); ok {
			if p, err := netip.ParsePrefix(was.Prefix); err == nil {
				return p.Masked()
			}
		}
	case adv.aggregate.Pool:
		p, _ := a.pools.forServices(addr)
		return p
	case bits > 0:
		return netip.PrefixFrom(addr, int(bits)).Masked()
	}
	return netip.Prefix{}
}

// audience returns the peers of all advertisements of a prefix together. In place of
// those of a broken one, which may be the mistake, it takes the peers that have the
// prefix now; a prefix that is not in force has none for it.
func (a *announcer) audience(p netip.Prefix, advs []*advertisement) (everyone bool, peers []string) {
	for _, adv := range advs {
		if !adv.frozen {
			everyone = everyone || adv.everyone
			peers = append(peers, adv.peers...)
		} else if was, ok := a.around(p); ok {
			everyone = everyone || len(was.Peers) == 0
			peers = append(peers, was.Peers...)
		}
	}
	slices.Sort(peers)
	return everyone, slices.Compact(peers)
}

// receivers returns the peers of this node that receive an announcement, nil for
// all; or why there is none.
func (a *announcer) receivers(everyone bool, peers []string) (to []string, none string) {
	if everyone && !a.excluded {
		return nil, ""
	}
	for _, name := range keys(a.here) {
		if (everyone || slices.Contains(peers, name)) && (!a.excluded || a.here[name]) {
			to = append(to, name)
		}
	}
	switch {
	case len(to) > 0:
		return to, ""
	case a.excluded:
		return nil, "this node has the label " + corev1.LabelNodeExcludeBalancers + ", and none of the peers has includeExcludedNodes"
	}
	return nil, "this node has no session with its peers: " + some(peers)
}

// finish puts the announcements in order.
func (a *announcer) finish() {
	for p, g := range a.aggregates.joined {
		a.single = append(a.single, placed{p, g.announcement(a.draining)})
	}
	slices.SortFunc(a.single, func(x, y placed) int { return x.prefix.Compare(y.prefix) })
	for _, p := range a.single {
		a.l.out.Announcements = append(a.l.out.Announcements, p.ann)
	}
}
