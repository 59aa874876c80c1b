package bgp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"onlink/bgp/gobgp"
	"onlink/bgp/policy"
)

// RouteSet is a set of the routes of one session.
type RouteSet uint8

// The sets. Accepted and Rejected are the parts of Received.
const (
	Received RouteSet = iota + 1
	Accepted
	Rejected
	Advertised
)

// PeerRoute is a route that a peer announced, or that is announced to it.
type PeerRoute struct {
	// Route is as the peer announced it, as import accepts it, or as the peer receives
	// it.
	Route        policy.Route
	OriginatorID netip.Addr
	ClusterList  []netip.Addr
	// State is accepted, rejected, or, of an announced route, sent, pending (not sent
	// yet), withheld (no message can hold it) or not announced.
	State string
	Rule  string // that decided
	At    time.Time
	Stale bool // kept for a peer that restarts
}

// The values of PeerRoute.State.
const (
	stateAccepted = "accepted"
	stateRejected = "rejected"
	stateSent     = "sent"
	statePending  = "pending"
	stateWithheld = "withheld"
	stateNot      = "not announced"
)

// routePage is how many routes are taken from the engine at once: its main goroutine
// does nothing else meanwhile, about a millisecond.
const routePage = 256

// Routes calls fn with the routes of a set that cover within or are inside it (all for
// the zero Prefix), in the order of their prefixes, and ends with the first error of fn.
// Of Advertised, a within also selects the routes that are not announced to the peer,
// with the reason. No copy of the table is made: each route is as it is when fn receives
// it. It wraps [ErrUnknownPeer], [ErrNotStarted] and [ErrNoSession].
func (o Operator) Routes(ctx context.Context, peer netip.Addr, set RouteSet, within netip.Prefix, fn func(*PeerRoute) error) error {
	engine, err := o.running()
	if err != nil {
		return err
	}
	t, err := o.contextOf(peer)
	if err != nil {
		return err
	}
	match := func(netip.Prefix) bool { return true }
	if within.IsValid() {
		match = within.Overlaps
	}
	take, page := engine.BestPrefixes, o.advertised
	if set != Advertised {
		take = func(match func(netip.Prefix) bool) ([]netip.Prefix, error) {
			return engine.ReceivedPrefixes(peer, match)
		}
		page = o.received
	}
	prefixes, err := take(match)
	if err != nil {
		return noSession(peer, err)
	}
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	q := routeQuery{engine: engine, policyTest: t, engineAddr: peer, set: set, named: within.IsValid()}
	for part := range slices.Chunk(slices.Compact(prefixes), routePage) {
		if err := ctx.Err(); err != nil {
			return err
		}
		list, err := page(&q, part)
		if err != nil {
			return noSession(peer, err)
		}
		for i := range list {
			if err := fn(&list[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// noSession is the error of a peer that the engine does not have.
func noSession(peer netip.Addr, err error) error {
	if errors.Is(err, gobgp.ErrNoTables) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrNoSession, peer, err)
}

// routeQuery is one call of Routes.
type routeQuery struct {
	policyTest

	engine     *gobgp.Engine
	engineAddr netip.Addr // of the peer, with its zone
	set        RouteSet
	named      bool // prefixes were named: what is not announced is listed too
}

// contextOf returns the session and policy of a peer's address.
func (o Operator) contextOf(peer netip.Addr) (policyTest, error) {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	if !o.s.started {
		return policyTest{}, ErrNotStarted
	}
	return testOfLocked(o.s, peer.String())
}

// receivedRoute is a copy of a peer's announcement.
type receivedRoute struct {
	peer                 netip.Addr
	peerAS               uint32
	route                policy.Route
	originator           netip.Addr
	clusters             []netip.Addr
	at                   time.Time
	loop, refused, stale bool
}

// receivedOf copies an announcement, on the engine's main goroutine.
func receivedOf(p *gobgp.ReceivedPath) receivedRoute {
	return receivedRoute{
		peer: p.Peer, peerAS: p.PeerAS, route: p.Attrs.Route(p.Prefix), originator: p.Attrs.OriginatorID(), clusters: p.Attrs.ClusterList(),
		at: p.At, loop: p.Loop, refused: p.Refused, stale: p.Stale,
	}
}

// info returns the announcement as a path of the Loc-RIB would be.
func (r *receivedRoute) info(asn uint32) PathInfo {
	i := PathInfo{
		Prefix: r.route.Prefix, NextHop: r.route.NextHop, Peer: r.peer, EBGP: r.peerAS != asn, ASPath: r.route.ASPath,
		LocalPref: 100, Origin: r.route.Origin, OriginatorID: r.originator, ClusterList: r.clusters,
		Communities: slices.Concat(r.route.Communities, r.route.LargeCommunities),
		Age:         time.Since(r.at).Truncate(time.Second), Stale: r.stale,
	}
	if r.route.LocalPref != nil {
		i.LocalPref = *r.route.LocalPref
	}
	if r.route.MED != nil {
		i.MED = *r.route.MED
	}
	return i
}

// verdict returns the decision of import on an announcement: the engine's, with the rule
// that the policy in force names.
func (t *policyTest) verdict(r *receivedRoute, c *Config) policy.Verdict {
	v := t.importOf(t.peer.Received(r.route, t.ends.Peer))
	switch {
	case r.loop:
		return v.Decide(loopText(r, c, v), policy.Reject, r.route)
	case r.refused && v.Accepted:
		return v.Decide("a policy before the one in force now: it is being applied", policy.Reject, r.route)
	case !r.refused && !v.Accepted:
		return v.Decide("a policy before the one in force now, which rejects it: "+v.Rule, policy.Accept, r.route)
	}
	return v
}

// loopText is the reason why an announcement is not used at all: it has been here.
func loopText(r *receivedRoute, c *Config, v policy.Verdict) string {
	switch {
	case r.originator == c.RouterID:
		return fmt.Sprintf("ORIGINATOR_ID %s is this node: a loop (RFC 4456 section 8)", r.originator)
	case slices.Contains(r.clusters, c.ClusterID):
		return fmt.Sprintf("CLUSTER_LIST holds our cluster %s: a loop (RFC 4456 section 8)", c.ClusterID)
	case !v.Accepted:
		return v.Rule // the AS_PATH
	}
	return "a loop: the route has been at this node"
}

// received returns the peer's routes to some prefixes, with the verdict on each.
func (o Operator) received(q *routeQuery, prefixes []netip.Prefix) ([]PeerRoute, error) {
	copies := make([]receivedRoute, 0, len(prefixes))
	err := q.engine.EachReceivedOf(q.engineAddr, prefixes, func(p gobgp.ReceivedPath) { copies = append(copies, receivedOf(&p)) })
	if err != nil {
		return nil, err
	}
	list := make([]PeerRoute, 0, len(copies))
	for i := range copies {
		r := &copies[i]
		v := q.verdict(r, &o.s.cfg)
		if v.Accepted && q.set == Rejected || !v.Accepted && q.set == Accepted {
			continue
		}
		one := PeerRoute{
			Route: r.route, OriginatorID: r.originator, ClusterList: r.clusters, State: stateRejected, Rule: v.Rule, At: r.at, Stale: r.stale,
		}
		if v.Accepted {
			one.State = stateAccepted
		}
		if q.set == Accepted {
			one.Route = v.After
		}
		list = append(list, one)
	}
	return list, nil
}

// advertisedRoute is a copy of a best path and its announcement to a peer.
type advertisedRoute struct {
	best, sent   policy.Route
	announced    bool
	originator   netip.Addr
	clusters     []netip.Addr
	source       netip.Addr
	at           time.Time
	pending      bool
	withheld     string
	fromOwnPeers bool // the source is a peer of our AS
}

// advertised returns what is announced to the peer of some prefixes.
func (o Operator) advertised(q *routeQuery, prefixes []netip.Prefix) ([]PeerRoute, error) {
	copies := make([]advertisedRoute, 0, len(prefixes))
	err := q.engine.EachAdvertised(q.engineAddr, prefixes, func(p gobgp.AdvertisedPath) {
		a := advertisedRoute{
			best: p.Best.Route(p.Prefix), announced: p.Sent != nil, source: p.Source, at: p.At, pending: p.Pending, withheld: p.Withheld,
			fromOwnPeers: p.Source.IsValid() && p.SourceAS == o.s.cfg.ASN,
		}
		if a.announced {
			a.sent, a.originator, a.clusters = p.Sent.Route(p.Prefix), p.Sent.OriginatorID(), p.Sent.ClusterList()
		}
		copies = append(copies, a)
	})
	if err != nil {
		return nil, err
	}
	list := make([]PeerRoute, 0, len(copies))
	for i := range copies {
		a := &copies[i]
		if !a.announced && a.withheld == "" && !q.named {
			continue
		}
		list = append(list, q.announcement(a, o.s.IsUp(q.engineAddr)))
	}
	return list, nil
}

// announcement returns an announced route with the rule of the export policy, or why it
// is not announced.
func (q *routeQuery) announcement(a *advertisedRoute, up bool) PeerRoute {
	r := a.best
	switch {
	case !a.source.IsValid():
		r.Source = policy.Own
	case a.fromOwnPeers:
		r.Source = policy.Reflected
	default:
		r.Source = policy.External
	}
	v := q.plan.Export(&q.peer, q.ends, r)
	one := PeerRoute{Route: r, State: stateNot, Rule: v.Rule, At: a.at}
	switch {
	case a.withheld != "":
		one.State, one.Rule = stateWithheld, a.withheld
	case a.announced:
		one.State, one.Route, one.OriginatorID, one.ClusterList = stateSent, a.sent, a.originator, a.clusters
		one.Route.Source = r.Source
		if a.pending {
			one.State = statePending
		}
	case !up:
		one.Rule = "the session is not Established"
	case a.source == q.engineAddr:
		one.Rule = "the peer announced the best path itself"
	case v.Accepted:
		one.Rule = "the session does not carry the family, or the peer announced it before (RFC 4456 section 8)"
	}
	return one
}
