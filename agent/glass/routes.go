package glass

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"onlink/bgp"
	"onlink/rib"
)

// routesView is the answer to a search.
type routesView struct {
	Routes       []routeRow   `json:"routes"`
	MoreRoutes   int          `json:"moreRoutes"`
	Prefixes     []prefixView `json:"prefixes"` // with their paths
	MorePrefixes int          `json:"morePrefixes"`
	Wide         bool         `json:"wide"` // too many routes to look for paths
}

// routeRow is a decided route.
type routeRow struct {
	Prefix    string   `json:"prefix"`
	Kind      string   `json:"kind"`
	Reason    string   `json:"reason"`
	Hops      []hopRow `json:"hops"`
	Installed bool     `json:"installed"`
	Error     string   `json:"error,omitempty"`
}

// hopRow is where a route sends packets.
type hopRow struct {
	Via    string `json:"via,omitempty"`
	Device string `json:"device"`
	Tunnel bool   `json:"tunnel"`
	Reason string `json:"reason"`
}

// prefixView is a prefix with all paths to it.
type prefixView struct {
	Prefix string    `json:"prefix"`
	Paths  []pathRow `json:"paths"`
	More   int       `json:"more"`
}

// pathRow is a path, and why it is not the best one.
type pathRow struct {
	Peer        string    `json:"peer"`
	PeerName    string    `json:"peerName"`
	NextHop     string    `json:"nextHop"`
	ASPath      string    `json:"asPath"`
	LocalPref   uint32    `json:"localPref"`
	MED         uint32    `json:"med"`
	Origin      string    `json:"origin"`
	Originator  string    `json:"originator,omitempty"`
	Communities []string  `json:"communities"`
	Since       time.Time `json:"since"`
	Stale       bool      `json:"stale"`
	State       string    `json:"state"`
	Reason      string    `json:"reason"`
}

// routes shows the routes that cover a prefix or are inside it, with the paths to each.
func (g *glass) routes(w http.ResponseWriter, r *http.Request) {
	within, err := prefixOf(r.URL.Query().Get("prefix"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "prefix: write an address or a prefix, such as 10.244.0.0/26")
		return
	}
	end, ok := begin(w, r, g.searches, "searches")
	if !ok {
		return
	}
	defer end()
	ctx, cancel := context.WithTimeout(r.Context(), searchTime)
	defer cancel()
	v, err := g.search(ctx, within)
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, fmt.Sprintf("the search failed: %v", err))
		return
	}
	answer(w, http.StatusOK, v)
}

// prefixOf reads an address or a prefix.
func prefixOf(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a.WithZone(""), a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// search looks for routes and paths.
func (g *glass) search(ctx context.Context, within netip.Prefix) (*routesView, error) {
	v := &routesView{Routes: []routeRow{}, Prefixes: []prefixView{}}
	err := g.Routes(ctx, func(route rib.Route, failed string) {
		switch {
		case !within.Overlaps(route.Prefix):
		case len(v.Routes) >= maxRoutes:
			v.MoreRoutes++
		default:
			v.Routes = append(v.Routes, routeOf(route, failed))
		}
	})
	if err != nil {
		return nil, err
	}
	// The list of all prefixes with paths is as large as the table.
	if v.Wide = v.MoreRoutes > 0; v.Wide {
		return v, nil
	}
	prefixes, err := g.Sessions.Prefixes(ctx, within)
	if err != nil {
		return nil, err
	}
	names, err := g.names(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range prefixes[:min(len(prefixes), maxPrefixes)] {
		paths, err := g.Sessions.Candidates(ctx, p)
		if err != nil {
			return nil, err
		}
		one := prefixView{Prefix: p.String(), Paths: []pathRow{}, More: max(0, len(paths)-maxPaths)}
		for i := range paths[:min(len(paths), maxPaths)] {
			one.Paths = append(one.Paths, pathOf(&paths[i], names))
		}
		v.Prefixes = append(v.Prefixes, one)
	}
	v.MorePrefixes = len(prefixes) - len(v.Prefixes)
	return v, nil
}

// names returns the names of the peers by address.
func (g *glass) names(ctx context.Context) (map[netip.Addr]string, error) {
	snap, err := g.Board.Since(ctx, time.Now().Add(-searchTime))
	if err != nil {
		return nil, err
	}
	out := map[netip.Addr]string{}
	for i := range snap.Sessions.Peers {
		out[snap.Sessions.Peers[i].Address] = short(snap.Sessions.Peers[i].Name)
	}
	return out, nil
}

func routeOf(r rib.Route, failed string) routeRow {
	row := routeRow{
		Prefix: r.Prefix.String(), Kind: r.Kind.String(), Reason: r.Reason.String(), Hops: []hopRow{},
		Installed: r.Kind.Installable() && failed == "", Error: failed,
	}
	for h := range r.Hops.All() {
		row.Hops = append(row.Hops, hopRow{Via: text(h.Via), Device: h.Dev, Tunnel: h.Tunnel, Reason: h.Reason.String()})
	}
	return row
}

func pathOf(c *bgp.Candidate, names map[netip.Addr]string) pathRow {
	return pathRow{
		Peer: text(c.Peer), PeerName: names[c.Peer], NextHop: text(c.NextHop), ASPath: short(c.ASPath), LocalPref: c.LocalPref, MED: c.MED,
		Origin: c.Origin, Originator: text(c.OriginatorID), Communities: c.Communities[:min(len(c.Communities), maxPaths)],
		Since: time.Now().Add(-c.Age).Truncate(time.Second), Stale: c.Stale, State: string(c.State), Reason: short(c.Reason),
	}
}
