package forecast

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"onlink/agent/config"
	"onlink/bgp"
	"onlink/rib"
)

// MaxItems bounds the items that a request may have in each list.
const MaxItems = 1000

// Agent is the live state that a forecast reads.
type Agent interface {
	// Desire returns what the speaker would be given of a configuration.
	Desire(next *config.Effective) (bgp.Desire, error)
	// Speak computes what the speaker would do with it.
	Speak(ctx context.Context, d bgp.Desire, sink bgp.ForecastSink) ([]bgp.SessionForecast, error)
	// Inputs returns a copy of the inputs of the decision, and how next hops are reached.
	Inputs(ctx context.Context) (rib.Inputs, rib.Resolver, error)
	// Decide puts into the inputs what a configuration changes, except paths.
	Decide(in *rib.Inputs, next *config.Effective)
}

// Of returns what a running agent would do with a configuration. items bounds each
// list. Its error is that of a configuration which the agent would reject.
func Of(ctx context.Context, a Agent, next *config.Effective, items int) (*Result, error) {
	desire, err := a.Desire(next)
	if err != nil {
		return nil, err
	}
	c := &collector{limit: items, effects: map[netip.Addr]*effects{}, paths: map[netip.Prefix][]rib.Path{}}
	sessions, err := a.Speak(ctx, desire, c)
	if err != nil {
		return nil, err
	}
	r := &Result{}
	for _, s := range sessions {
		one := Session{SessionForecast: s}
		if found := c.effects[s.Address]; found != nil {
			one.Effects, one.Lost = found.lists, found.lost
		}
		r.Sessions = append(r.Sessions, one)
	}
	in, resolver, err := a.Inputs(ctx)
	if err != nil {
		return nil, err
	}
	r.decide(a, in, resolver, next, c)
	return r, nil
}

// collector is the sink of the speaker's forecast.
type collector struct {
	limit   int
	effects map[netip.Addr]*effects
	paths   map[netip.Prefix][]rib.Path // of the prefixes whose paths change
}

// effects are those on the routes of one session.
type effects struct {
	lists [bgp.RouteEffects]List
	lost  int
	fresh []netip.Prefix // announced anew, the first ones
}

// maxFresh bounds the prefixes that may cover withdrawn ones.
const maxFresh = 1000

// Route implements [bgp.ForecastSink]. A prefix comes after those around it.
func (c *collector) Route(f bgp.RouteForecast) {
	of := c.effects[f.Peer]
	if of == nil {
		of = &effects{}
		c.effects[f.Peer] = of
	}
	of.lists[f.Effect].add(c.limit, f.Prefix, func() string { return f.Rule })
	switch f.Effect { //nolint:exhaustive // the others take no announcement away
	case bgp.Announces:
		if len(of.fresh) < maxFresh {
			of.fresh = append(of.fresh, f.Prefix)
		}
	case bgp.Withdraws:
		if !slices.ContainsFunc(of.fresh, func(p netip.Prefix) bool { return p.Bits() < f.Prefix.Bits() && p.Contains(f.Prefix.Addr()) }) {
			of.lost++
		}
	}
}

// Paths implements [bgp.ForecastSink].
func (c *collector) Paths(u rib.Update) { c.paths[u.Prefix] = u.Paths }

// decide compares the kernel routes that two tables decide, the present one and that of
// the configuration. Both are made anew of the same inputs, so that only the change
// tells them apart.
func (r *Result) decide(a Agent, in rib.Inputs, resolver rib.Resolver, next *config.Effective, c *collector) {
	once := &memory{Resolver: resolver, known: map[netip.Addr]rib.Reach{}}
	now := routesOf(in.Table(once))
	a.Decide(&in, next)
	for i, u := range in.Paths {
		if changed, ok := c.paths[u.Prefix]; ok {
			in.Paths[i].Paths = changed
			delete(c.paths, u.Prefix)
		}
	}
	for p, list := range c.paths { // those that have no path now
		in.Paths = append(in.Paths, rib.Update{Prefix: p, Paths: list})
	}
	later := routesOf(in.Table(once))
	for _, p := range inOrder(now, later) {
		was, is := now[p], later[p]
		switch {
		case !is.Prefix.IsValid():
			r.Removes.add(c.limit, p, was.text)
		case !was.Prefix.IsValid():
			r.Installs.add(c.limit, p, is.text)
		case was != is:
			r.Replaces.add(c.limit, p, func() string { return is.text() + " instead of " + was.text() })
		}
	}
}

// route is a decided route as the kernel has it.
type route rib.Route

// routesOf returns the routes of a table that the kernel has. Why a route is one is
// no part of it.
func routesOf(t *rib.Table) map[netip.Prefix]route {
	out := map[netip.Prefix]route{}
	for one := range t.Routes() {
		if one.Kind.Installable() {
			out[one.Prefix] = route{Prefix: one.Prefix, Kind: one.Kind, Hops: one.Hops}
		}
	}
	return out
}

// inOrder returns the prefixes of both, sorted.
func inOrder(a, b map[netip.Prefix]route) []netip.Prefix {
	list := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.SortFunc(list, netip.Prefix.Compare)
	return slices.Compact(list)
}

// text writes the route without its prefix, as ip-route(8) does.
func (r route) text() string {
	if r.Hops.Len() == 0 {
		return r.Kind.String()
	}
	var hops []string
	for h := range r.Hops.All() {
		text := "dev " + h.Dev
		if h.Via.IsValid() {
			text = fmt.Sprintf("via %s %s", h.Via, text)
		}
		hops = append(hops, text)
	}
	return strings.Join(hops, ", ")
}

// memory asks how a next hop is reached once, so that both tables hear the same.
type memory struct {
	rib.Resolver

	known map[netip.Addr]rib.Reach
}

// Reach implements [rib.Resolver].
func (m *memory) Reach(nextHop netip.Addr) rib.Reach {
	reach, known := m.known[nextHop]
	if !known {
		reach = m.Resolver.Reach(nextHop)
		m.known[nextHop] = reach
	}
	return reach
}
