package glass

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"onlink/agent/explain"
	"onlink/bgp"
	"onlink/rib"
)

// block is the n-th /26 of the pool.
func block(n int) netip.Prefix {
	return pfx(fmt.Sprintf("10.%d.%d.%d/26", 64+n>>10, n>>2&255, n&3<<6))
}

// TestRoutes: a search has the routes around a prefix and all paths to it.
func TestRoutes(t *testing.T) {
	near := block(0)
	b := &bed{
		routesOf: []rib.Route{
			{Prefix: near, Kind: rib.Unicast, Reason: rib.ReasonViaGateway, Hops: rib.MakeHops(rib.Hop{Via: ip("10.57.2.11"), Dev: "onlink-vxlan", Tunnel: true, Reason: rib.ReasonViaGateway})},
			{Prefix: block(1), Kind: rib.Unresolved, Reason: rib.ReasonUnreachable},
		},
		failed:   map[netip.Prefix]string{near: "file exists: proto static"},
		prefixes: []netip.Prefix{near, block(1)},
		candidates: []bgp.Candidate{
			{PathInfo: bgp.PathInfo{Prefix: near, NextHop: ip("10.57.2.11"), Peer: ip("10.57.1.10"), LocalPref: 100, Origin: "igp", Best: true}, State: bgp.PathBest},
			{PathInfo: bgp.PathInfo{Prefix: near, NextHop: ip("10.57.2.12"), Peer: ip("10.57.1.1"), ASPath: "65101", LocalPref: 100, Origin: "igp", Stale: true, Communities: []string{"64512:1"}}, State: bgp.PathWorse, Reason: "the other has no AS path"},
		},
	}
	b.put(snapshot())
	s := b.serve(t)
	var got routesView
	s.ask("/api/routes?prefix="+near.String(), &got)
	want := routesView{
		Routes: []routeRow{{
			Prefix: near.String(), Kind: "unicast", Reason: "behind-gateway", Error: "file exists: proto static",
			Hops: []hopRow{{Via: "10.57.2.11", Device: "onlink-vxlan", Tunnel: true, Reason: "behind-gateway"}},
		}},
		Prefixes: []prefixView{{Prefix: near.String(), Paths: []pathRow{
			{Peer: "10.57.1.10", PeerName: "rr1", NextHop: "10.57.2.11", LocalPref: 100, Origin: "igp", State: "best"},
			{Peer: "10.57.1.1", PeerName: "r1tor1", NextHop: "10.57.2.12", ASPath: "65101", LocalPref: 100, Origin: "igp", Communities: []string{"64512:1"}, Stale: true, State: "not best", Reason: "the other has no AS path"},
		}}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(pathRow{}, "Since")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if since := got.Prefixes[0].Paths[0].Since; time.Since(since) > time.Minute {
		t.Errorf("a path of now is of %v", since)
	}
	got = routesView{}
	s.ask("/api/routes?prefix="+block(1).Addr().Next().String(), &got)
	if len(got.Routes) != 1 || got.Routes[0].Installed || got.Routes[0].Prefix != block(1).String() {
		t.Errorf("the routes of an address: %+v", got.Routes)
	}
	for _, bad := range []string{"", "?prefix=", "?prefix=pod-1", "?prefix=10.0.0.0/99", "?prefix=" + strings.Repeat("1", 300)} {
		s.refused("/api/routes"+bad, http.StatusBadRequest, "prefix: write an address or a prefix")
	}
	b.fail(errPart)
	s.refused("/api/routes?prefix=10.0.0.0/8", http.StatusServiceUnavailable, errPart.Error())
}

// TestManyRoutes: of 100,000 routes a bounded number goes out, and the paths of none are
// looked up until the search is narrower.
func TestManyRoutes(t *testing.T) {
	b := &bed{}
	for i := range 100_000 {
		b.routesOf = append(b.routesOf, rib.Route{Prefix: block(i), Kind: rib.Unicast, Hops: rib.MakeHops(rib.Hop{Via: ip("10.57.2.11"), Dev: "eth0"})})
		b.prefixes = append(b.prefixes, block(i))
	}
	for range 100 {
		b.candidates = append(b.candidates, bgp.Candidate{State: bgp.PathWorse})
	}
	s := b.serve(t)
	code, text := s.get("/api/routes?prefix=10.0.0.0/8")
	if code != http.StatusOK || len(text) > 32<<10 {
		t.Errorf("%d, %d bytes", code, len(text))
	}
	var v routesView
	s.ask("/api/routes?prefix=10.0.0.0/8", &v)
	if len(v.Routes) != maxRoutes || v.MoreRoutes != 100_000-maxRoutes || !v.Wide || len(v.Prefixes) != 0 {
		t.Errorf("%d routes and %d more, wide %v, %d prefixes", len(v.Routes), v.MoreRoutes, v.Wide, len(v.Prefixes))
	}
	v = routesView{}
	s.ask("/api/routes?prefix=10.64.0.0/20", &v) // 64 blocks
	if len(v.Routes) != 64 || v.Wide || len(v.Prefixes) != maxPrefixes || v.MorePrefixes != 64-maxPrefixes {
		t.Errorf("%d routes, wide %v, %d prefixes and %d more", len(v.Routes), v.Wide, len(v.Prefixes), v.MorePrefixes)
	}
	if p := v.Prefixes[0]; len(p.Paths) != maxPaths || p.More != 100-maxPaths {
		t.Errorf("%d paths and %d more", len(p.Paths), p.More)
	}
}

// TestExplain: an explanation has all steps, and a question with a mistake names the
// field.
func TestExplain(t *testing.T) {
	b := &bed{explain: func(_ context.Context, q explain.Question) (explain.Result, error) {
		return explain.Result{
			Question: q, Verdict: "a blackhole route of proto static takes the packets", Cause: explain.RouteForeign, Fix: "remove it", Node: "r1n2",
			Steps: []explain.Step{{Name: "owner", Detail: "r1n2"}, {Name: "kernel-route", State: explain.Broken, Detail: "blackhole", Cause: explain.RouteForeign, Fix: "remove it", Node: "r1n2"}},
		}, nil
	}}
	s := b.serve(t)
	var got explanationView
	s.ask("/api/explain?to=10.244.1.7&from=10.244.0.3", &got)
	want := explanationView{
		From: "10.244.0.3", To: "10.244.1.7", Verdict: "a blackhole route of proto static takes the packets", Cause: "route.foreign", Fix: "remove it", Node: "r1n2",
		Steps: []stepView{{Name: "owner", State: "ok", Detail: "r1n2"}, {Name: "kernel-route", State: "broken", Detail: "blackhole", Cause: "route.foreign", Fix: "remove it", Node: "r1n2"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for query, text := range map[string]string{
		"": "to: ", "?to=<b>": "to: ", "?to=10.0.0.1&from=pod": "from: ", "?to=10.0.0.1&from=fd00::1": "different families",
	} {
		s.refused("/api/explain"+query, http.StatusBadRequest, text, askHeader, "1")
	}
}

// TestSession: a session in detail, by the address of the peer.
func TestSession(t *testing.T) {
	tor := ip("10.57.1.1")
	b := &bed{details: map[netip.Addr]bgp.PeerDetail{tor: {
		PeerStatus: bgp.PeerStatus{Address: tor, LastError: strings.Repeat("x", 10_000), Flaps: 2},
		Local:      ip("10.57.1.11"), NegotiatedHold: 90 * time.Second, Theirs: []bgp.Capability{{Code: 2, Name: "route-refresh"}, {Code: 65, Name: "4-octet-as", Value: "65101"}},
		Heard: bgp.Messages{Open: 1, Keepalive: 7}, PerFamily: []bgp.FamilyRoutes{{Family: bgp.IPv4, Received: 3, Accepted: 1}},
	}}}
	s := b.serve(t)
	var v sessionView
	s.ask("/api/session?address=10.57.1.1", &v)
	lines := map[string]string{}
	for _, l := range v.Lines {
		lines[l[0]] = l[1]
	}
	for name, want := range map[string]string{
		"hold time, negotiated": "1m30s", "capabilities of the peer": "route-refresh, 4-octet-as 65101", "messages received": "1 OPEN, 7 KEEPALIVE",
		"local address": "10.57.1.11", "lost so often": "2", bgp.IPv4.String(): "3 received, 1 accepted",
	} {
		if lines[name] != want {
			t.Errorf("%s: %q, want %q", name, lines[name], want)
		}
	}
	if len(lines["last error"]) > maxText+4 {
		t.Errorf("a text of %d bytes", len(lines["last error"]))
	}
	s.refused("/api/session?address=10.57.1.2", http.StatusNotFound, "no peer has the address 10.57.1.2")
	s.refused("/api/session?address=tor", http.StatusBadRequest, "address: ")
	b.fail(errPart)
	s.refused("/api/session?address=10.57.1.1", http.StatusServiceUnavailable, errPart.Error())
}
