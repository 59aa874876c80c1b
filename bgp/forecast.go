package bgp

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"onlink/bgp/gobgp"
	"onlink/bgp/policy"
	"onlink/rib"
)

// Desire is a configuration that a speaker could have: the arguments of
// [Speaker.SetPeers], [Speaker.SetPools] and [Speaker.SetOrigins].
type Desire struct {
	Peers    []Peer
	Dynamics []Dynamic
	Pools    []policy.Pool
	Origins  []Origin
}

// RouteEffect is what a [Desire] would do with a route of a session.
type RouteEffect uint8

// The effects: on routes to the peer, then on routes of the peer. Changed means other
// attributes.
const (
	Announces RouteEffect = iota
	Withdraws
	AnnouncesChanged
	Accepts
	Drops
	AcceptsChanged
	RouteEffects // their number
)

// RouteForecast is one route that a [Desire] would treat differently.
type RouteForecast struct {
	Peer   netip.Addr
	Effect RouteEffect
	Prefix netip.Prefix
	Rule   string // that decides
}

// ForecastSink receives a forecast, in the order of the prefixes.
type ForecastSink interface {
	// Route is called with each route that would be treated differently.
	Route(r RouteForecast)
	// Paths is called with the best paths of a prefix that would be others.
	Paths(u rib.Update)
}

// Forecast computes what the speaker would do with a desire: which sessions it would
// touch, and how it would treat the routes that the sessions have now. It changes
// nothing, and reads the engine's tables a part at a time. A route that a session
// which ends has brought is dropped; those that a new session will bring are unknown.
// Which of several nodes keeps a block without a registered owner is not computed: the
// better path is taken to win. It wraps [ErrConfig] and [ErrNotStarted], and needs a
// patched engine.
func (o Operator) Forecast(ctx context.Context, d Desire, sink ForecastSink) ([]SessionForecast, error) {
	engine, err := o.running()
	if err != nil {
		return nil, err
	}
	f, err := o.newForecast(engine, &d)
	if err != nil {
		return nil, err
	}
	f.sink = sink
	if !f.differs() {
		return f.result(), nil
	}
	prefixes, err := f.prefixes()
	if err != nil {
		return nil, err
	}
	for part := range slices.Chunk(prefixes, routePage) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := f.page(part); err != nil {
			return nil, err
		}
	}
	return f.result(), nil
}

// Origins returns the prefixes that the node originates, by prefix.
func (o Operator) Origins() []Origin {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	return inOrder(o.s.origins, func(a, b Origin) int { return a.Prefix.Compare(b.Prefix) })
}

// forecast compares two sides of one speaker, route by route.
type forecast struct {
	engine    *gobgp.Engine
	now, next side
	sessions  []*foreseen
	byAddr    map[netip.Addr]*foreseen // by address without zone
	sink      ForecastSink
	// rejudged: the pools differ, so that every announcement is judged again.
	rejudged bool
	moves    moves // of the own prefixes
}

// newForecast reads both sides: the one in force, and that of the desire.
func (o Operator) newForecast(engine *gobgp.Engine, d *Desire) (*forecast, error) {
	s := o.s
	cfg := s.cfg
	cfg.Pools = d.Pools
	want, err := wantedOf(&cfg, d.Peers, d.Dynamics)
	if err != nil {
		return nil, err
	}
	origins, err := originsOf(&cfg, d.Origins)
	if err != nil {
		return nil, err
	}
	f := &forecast{engine: engine, byAddr: map[netip.Addr]*foreseen{}}
	node := cfg.policyNode()
	peers, ranges := policyPeers(want.peers), policyRanges(want.dynamics)
	f.next = side{cfg: &cfg, want: want, origins: origins, plan: policy.NewPlan(&node, peers, ranges, policyOwn(origins))}
	s.mu.Lock()
	had := s.cfg
	f.now = side{cfg: &had, want: *s.sessions.want.clone(), origins: maps.Clone(s.origins), plan: s.plan}
	adopted := maps.Clone(s.sessions.adopted)
	if engine.ChecksImport() {
		f.now.guard = s.guard.current.Load()
		f.next.guard = policy.NewGuard(&node, peers, ranges, s.guard.facts)
	}
	s.mu.Unlock()
	f.rejudged = !slices.Equal(f.now.cfg.Pools, cfg.Pools)
	f.moves = f.now.origins.to(f.next.origins)
	return f, f.open(s.Peers(), adopted)
}

// differs reports whether a route can be treated differently at all.
func (f *forecast) differs() bool {
	return f.rejudged || !maps.EqualFunc(f.now.origins, f.next.origins, Origin.Equal) || slices.ContainsFunc(f.sessions, func(s *foreseen) bool { return s.importDiffers || s.exportDiffers })
}

// prefixes returns those of the Loc-RIB, of the announcements of the peers, and those
// that the node would originate, in order.
func (f *forecast) prefixes() ([]netip.Prefix, error) {
	all := func(netip.Prefix) bool { return true }
	list, err := f.engine.BestPrefixes(all)
	if err != nil {
		return nil, fmt.Errorf("list prefixes: %w", err)
	}
	for _, s := range f.sessions {
		if !s.Up {
			continue
		}
		more, err := f.engine.ReceivedPrefixes(s.Address, all)
		if err != nil {
			continue // the session ended meanwhile
		}
		list = append(list, more...)
	}
	list = slices.AppendSeq(list, maps.Keys(f.next.origins))
	slices.SortFunc(list, netip.Prefix.Compare)
	return slices.Compact(list), nil
}

// page compares some prefixes.
func (f *forecast) page(part []netip.Prefix) error {
	received := map[netip.Prefix][]receivedRoute{}
	err := f.engine.EachReceivedOf(netip.Addr{}, part, func(p gobgp.ReceivedPath) {
		received[p.Prefix] = append(received[p.Prefix], receivedOf(&p))
	})
	if err != nil {
		return fmt.Errorf("read the routes of the peers: %w", err)
	}
	for _, prefix := range part {
		f.compare(prefix, received[prefix])
	}
	return nil
}

// compare compares one prefix.
func (f *forecast) compare(prefix netip.Prefix, routes []receivedRoute) {
	differs := f.moves.redirected[prefix] || f.originDiffers(prefix)
	for i := range routes {
		differs = f.compareImport(&routes[i]) || differs
	}
	evaluate := differs || slices.ContainsFunc(f.sessions, func(s *foreseen) bool { return s.exportDiffers })
	if !evaluate {
		return
	}
	now := f.now.ranked(prefix, routes, f.verdictNow)
	next := now
	if differs {
		next = f.next.ranked(prefix, routes, f.verdictNext)
		if before, after := paths(now), paths(next); !slices.Equal(before, after) {
			f.sink.Paths(rib.Update{Prefix: prefix, Paths: after})
		}
	}
	f.compareExports(prefix, best(now), best(next), differs)
}

func (f *forecast) originDiffers(prefix netip.Prefix) bool {
	was, had := f.now.origins[prefix]
	will, has := f.next.origins[prefix]
	return had != has || had && !was.Equal(will)
}

// compareImport judges an announcement of a peer on both sides, and reports whether
// it is a different candidate.
func (f *forecast) compareImport(r *receivedRoute) bool {
	s := f.byAddr[r.peer.WithZone("")]
	if s == nil || !f.rejudged && !s.importDiffers && !f.moves.judged.holding(r.route.Prefix).IsValid() {
		return false
	}
	now, next := f.verdictNow(r), f.verdictNext(r)
	out := RouteForecast{Peer: s.Address, Prefix: r.route.Prefix, Rule: next.Rule}
	switch {
	case now.Accepted && !next.Accepted:
		out.Effect = Drops
	case !now.Accepted && next.Accepted:
		out.Effect = Accepts
	case now.Accepted && !sameRoute(&now.After, &next.After):
		out.Effect = AcceptsChanged
	default:
		return false
	}
	f.sink.Route(out)
	return true
}

// verdictNow is the decision in force on an announcement.
func (f *forecast) verdictNow(r *receivedRoute) policy.Verdict {
	s := f.byAddr[r.peer.WithZone("")]
	if s == nil || s.now == nil {
		return policy.Verdict{}
	}
	return f.now.verdict(s.now, r)
}

// verdictNext is the decision of the desire on it.
func (f *forecast) verdictNext(r *receivedRoute) policy.Verdict {
	s := f.byAddr[r.peer.WithZone("")]
	if s == nil || s.next == nil {
		return policy.Verdict{Rule: "the session is removed"}
	}
	return f.next.verdict(s.next, r)
}

// compareExports compares the announcements of one prefix to all sessions.
func (f *forecast) compareExports(prefix netip.Prefix, now, next *ranked, differs bool) {
	var before, after announced // the verdicts that sessions share
	for _, s := range f.sessions {
		if !s.Up && s.now != nil || !differs && !s.exportDiffers {
			continue
		}
		was, will := f.now.announces(&before, now, s, s.now), f.next.announces(&after, next, s, s.next)
		out := RouteForecast{Peer: s.Address, Prefix: prefix, Rule: will.Rule}
		switch {
		case was.Accepted && !will.Accepted:
			out.Effect = Withdraws
		case !was.Accepted && will.Accepted:
			out.Effect = Announces
		case was.Accepted && !sameRoute(&was.After, &will.After):
			out.Effect = AnnouncesChanged
		default:
			continue
		}
		f.sink.Route(out)
	}
}

// sameRoute reports whether two routes are the same message.
func sameRoute(a, b *policy.Route) bool {
	return a.NextHop == b.NextHop && a.ASPath == b.ASPath && a.Origin == b.Origin && equal(a.LocalPref, b.LocalPref) && equal(a.MED, b.MED) &&
		slices.Equal(a.Communities, b.Communities) && slices.Equal(a.LargeCommunities, b.LargeCommunities)
}
