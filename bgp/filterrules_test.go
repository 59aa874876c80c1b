package bgp

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestFilterRules: every match and every change, with the result written out:
// what TestEvaluatorIsTheEngine finds equal is also right. The ToR announces
// one route for each case; the rule of a case matches that prefix too.
func TestFilterRules(t *testing.T) {
	tor := dual(t, "127.33.0.1", "2001:db8::100")
	tor.ASN = 65001
	n := startNodes(t, tor, dual(t, "127.33.0.2", "2001:db8::200"))
	nine := uint32(9)
	const plain = "via 127.33.0.1 path [65001] pref 100 med 0 communities [] [] origin igp"
	tests := []struct {
		name   string
		export bool // the rule is the ToR's, for export
		sent   Route
		rule   FilterRule
		want   string
	}{
		{"accept", false, Route{}, FilterRule{Action: Accept}, plain},
		{"reject", false, Route{}, FilterRule{Action: Reject}, ""},
		{"next falls to accept lists, which have nothing", false, Route{}, FilterRule{Set: Set{LocalPref: 7}, Action: Next}, ""},
		{"community", false, Route{Communities: []string{"1:1", "1:2"}}, FilterRule{Match: Match{Communities: []string{"1:2", "1:3"}}, Action: Accept}, strings.Replace(plain, "[] []", "[1:1 1:2] []", 1)},
		{"other community", false, Route{Communities: []string{"1:1"}}, FilterRule{Match: Match{Communities: []string{"1:2", "1:3"}}, Action: Accept}, ""},
		{"not a part of a community", false, Route{Communities: []string{"11:22"}}, FilterRule{Match: Match{Communities: []string{"1:2"}}, Action: Accept}, ""},
		{"community by expression", false, Route{Communities: []string{"64512:117"}}, FilterRule{Match: Match{Communities: []string{"^64512:1..$"}}, Action: Accept}, strings.Replace(plain, "[] []", "[64512:117] []", 1)},
		{"large community", false, Route{LargeCommunities: []string{"1:2:3"}}, FilterRule{Match: Match{LargeCommunities: []string{"1:2:3"}}, Action: Accept}, strings.Replace(plain, "[] []", "[] [1:2:3]", 1)},
		{"one of both kinds is not both", false, Route{LargeCommunities: []string{"1:2:3"}}, FilterRule{Match: Match{Communities: []string{"1:2"}, LargeCommunities: []string{"1:2:3"}}, Action: Accept}, ""},
		{"first AS", false, Route{ASPath: "65010"}, FilterRule{Match: Match{ASPath: []string{"^65001_65010_"}}, Action: Accept}, strings.Replace(plain, "[65001]", "[65001 65010]", 1)},
		{"no part of an AS", false, Route{ASPath: "65010"}, FilterRule{Match: Match{ASPath: []string{"_6501_", "_5010$"}}, Action: Accept}, ""},
		{"AS in a set", false, Route{ASPath: "{65010,65011}"}, FilterRule{Match: Match{ASPath: []string{"_65011_"}}, Action: Accept}, strings.Replace(plain, "[65001]", "[65001 {65010,65011}]", 1)},
		{"local pref", false, Route{}, FilterRule{Set: Set{LocalPref: 300}, Action: Accept}, strings.Replace(plain, "pref 100", "pref 300", 1)},
		{"local pref of graceful shutdown", false, Route{Communities: []string{"65535:0"}}, FilterRule{Set: Set{LocalPref: 300}, Action: Accept}, strings.Replace(strings.Replace(plain, "pref 100", "pref 1", 1), "[] []", "[65535:0] []", 1)},
		{"med", false, Route{}, FilterRule{Set: Set{MED: &nine}, Action: Accept}, strings.Replace(plain, "med 0", "med 9", 1)},
		{"origin", false, Route{}, FilterRule{Set: Set{Origin: "egp"}, Action: Accept}, strings.Replace(plain, "origin igp", "origin egp", 1)},
		{"add", false, Route{Communities: []string{"1:1"}}, FilterRule{Set: Set{Communities: CommunityChange{Add: []string{"1:2"}}, LargeCommunities: CommunityChange{Add: []string{"1:2:3"}}}, Action: Accept}, strings.Replace(plain, "[] []", "[1:1 1:2] [1:2:3]", 1)},
		{"remove", false, Route{Communities: []string{"1:1", "2:1", "2:2"}}, FilterRule{Set: Set{Communities: CommunityChange{Remove: []string{"1:1", "^2:.*1$"}}}, Action: Accept}, strings.Replace(plain, "[] []", "[2:2] []", 1)},
		{"remove what was matched, and add", false, Route{Communities: []string{"1:1"}}, FilterRule{Match: Match{Communities: []string{"1:1"}}, Set: Set{Communities: CommunityChange{Remove: []string{"1:1"}, Add: []string{"1:2"}}}, Action: Accept}, strings.Replace(plain, "[] []", "[1:2] []", 1)},
		{"replace", false, Route{Communities: []string{"1:1"}, LargeCommunities: []string{"1:1:1"}}, FilterRule{Set: Set{Communities: CommunityChange{Replace: []string{"1:2"}}, LargeCommunities: CommunityChange{Replace: []string{"1:2:3"}}}, Action: Accept}, strings.Replace(plain, "[] []", "[1:2] [1:2:3]", 1)},
		{"prepend on import", false, Route{}, FilterRule{Set: Set{Prepend: 1}, Action: Accept}, strings.Replace(plain, "[65001]", "[64512 65001]", 1)},
		{"next hop by address", false, Route{}, FilterRule{Set: Set{NextHop: NextHop{NextHopAddress, addr("192.0.2.7")}}, Action: Accept}, strings.Replace(plain, "127.33.0.1", "192.0.2.7", 1)},
		{"prepend on export", true, Route{}, FilterRule{Set: Set{Prepend: 2}, Action: Accept}, strings.Replace(plain, "[65001]", "[65001 65001 65001]", 1)},
		{"reject on export", true, Route{}, FilterRule{Action: Reject}, ""},
		{"next hop unchanged", true, Route{}, FilterRule{Set: Set{NextHop: NextHop{Kind: NextHopUnchanged}}, Action: Accept}, strings.Replace(plain, "127.33.0.1", "192.0.2.1", 1)},
		{"local pref is not sent", true, Route{}, FilterRule{Set: Set{LocalPref: 300}, Action: Accept}, plain},
		{"no export stays", true, Route{Communities: []string{noExport}}, FilterRule{Action: Accept}, ""},
		{"replace leaves graceful shutdown", true, Route{Communities: []string{"1:1", "65535:0"}}, FilterRule{Set: Set{Communities: CommunityChange{Replace: []string{"1:2"}}}, Action: Accept}, strings.Replace(strings.Replace(plain, "pref 100", "pref 1", 1), "[] []", "[1:2 65535:0] []", 1)},
	}
	in, out := Filter{Name: "in"}, Filter{Name: "out"}
	routes := make([]Route, len(tests))
	for i, tt := range tests {
		p := prefix(fmt.Sprintf("10.250.%d.0/24", i))
		routes[i] = tt.sent
		routes[i].Prefix, routes[i].NextHop, routes[i].Origin = p, addr("192.0.2.1"), "igp"
		rule := tt.rule
		rule.Match.Prefixes = []PrefixRule{{Prefix: p}}
		if tt.export {
			out.Rules = append(out.Rules, rule)
			rule = FilterRule{Match: Match{Prefixes: rule.Match.Prefixes}, Action: Accept}
		}
		in.Rules = append(in.Rules, rule)
	}
	n[0].setPeers([]Peer{{Name: "x", Address: n[1].addr, Port: testPort, Session: Session{
		Role: EBGP, ASN: 64512, LocalAddress: n[0].addr, Export: Export{Own: true, Filters: []Filter{out}},
	}}})
	n[1].setPeers([]Peer{{Name: "tor", Address: n[0].addr, Port: testPort, Session: Session{
		Role: EBGP, ASN: 65001, LocalAddress: n[1].addr,
		Import: Import{Filters: []Filter{in, {Name: "marker", Rules: []FilterRule{{Match: Match{Prefixes: []PrefixRule{{Prefix: marker.Prefix}}}, Action: Accept}}}}},
	}}})
	n[1].waitUp(n[0].addr)
	for _, r := range routes {
		n[0].announce(r)
	}
	agree(t, routes, []hop{{n[0], n[1]}})
	for i, tt := range tests {
		want := tt.want
		if want != "" {
			want = routes[i].Prefix.String() + " " + want
		}
		if got := n[1].held(routes[i].Prefix); got != want {
			t.Errorf("%s: held %q, want %q", tt.name, got, want)
		}
	}
}

// TestDefaultRouteNeedsItsName: a rule that accepts everything does not accept
// the default route, one that names it does.
func TestDefaultRouteNeedsItsName(t *testing.T) {
	c := testConfig(t, "127.33.1.1")
	s := Session{Role: EBGP, ASN: 65001, Import: Import{Filters: []Filter{{Name: "all", Rules: []FilterRule{{Action: Accept}}}}}}.withDefaults(&c)
	test := func(route string) bool {
		plan := planPolicy(&c, []Peer{{Name: "tor", Address: addr("192.0.2.1"), Session: s}}, nil, nil)
		v := plan.evaluate(importing, &s, sessionView{peer: addr("192.0.2.1")}, Route{Prefix: prefix(route), NextHop: addr("192.0.2.1")})
		return v.Accepted
	}
	for route, want := range map[string]bool{"0.0.0.0/0": false, "::/0": false, "0.0.0.0/1": true, "fd00::/8": true, "10.0.0.1/32": true} {
		if got := test(route); got != want {
			t.Errorf("%s: accepted %t, want %t", route, got, want)
		}
	}
	s.Import.Filters[0].Rules[0].Match.Prefixes = []PrefixRule{{Prefix: prefix("0.0.0.0/0")}}
	if !test("0.0.0.0/0") {
		t.Error("0.0.0.0/0 is named and not accepted")
	}
}

// TestEditsResetNothing: a hundred random edits of filters, lists and other
// peers, by configuration and by hand, reset no session that they do not name,
// and leave the policy that was asked for last.
func TestEditsResetNothing(t *testing.T) {
	tor := dual(t, "127.34.0.2", "2001:db8::102")
	tor.ASN = 65001
	n := startNodes(t, dual(t, "127.34.0.1", "2001:db8::101"), tor, dual(t, "127.34.0.3", "2001:db8::103"), dual(t, "127.34.0.4", "2001:db8::104"))
	x, ebgp, still, moved := n[0], n[1], n[2], n[3]
	up := Peer{Name: "tor", Address: ebgp.addr, Port: testPort, Session: Session{Role: EBGP, ASN: 65001, LocalAddress: x.addr, Export: Export{Own: true}}}
	down := Peer{Name: "x", Address: x.addr, Port: testPort, Session: Session{
		Role: EBGP, ASN: 64512, LocalAddress: ebgp.addr, Export: Export{Own: true},
		Import: Import{Accept: []PrefixRule{{Prefix: prefix("0.0.0.0/0"), Ge: 8}, {Prefix: prefix("::/0"), Ge: 8}}},
	}}
	others := []Peer{from(to(still.addr.String(), IBGP), x.addr.String()), from(to(moved.addr.String(), IBGP), x.addr.String())}
	ebgp.setPeers([]Peer{down})
	for _, o := range []*node{still, moved} {
		o.setPeers([]Peer{from(to(x.addr.String(), IBGP), o.addr.String())})
	}
	x.setPeers(append(others, up))
	x.waitUp(ebgp.addr, still.addr, moved.addr)
	ebgp.waitUp(x.addr)
	d := dice{rand.New(rand.NewPCG(7, 7))}
	var in, out []Route
	for i := range 40 {
		r := d.route(i)
		in = append(in, r)
		ebgp.announce(r)
		r.Prefix = d.route(100 + i).Prefix
		if r.NextHop = addr("192.0.2.9"); !r.Prefix.Addr().Is4() {
			r.NextHop = addr("2001:db8::9")
		}
		out = append(out, r)
		x.announce(r)
	}
	since := map[*node]time.Time{ebgp: x.peer(ebgp.addr).Since, still: x.peer(still.addr).Since}
	for range 100 {
		switch d.IntN(6) {
		case 0:
			up.Import.Filters = d.filters(importing, EBGP)
		case 1:
			up.Export.Filters = d.filters(exporting, EBGP)
		case 2:
			up.Import.Accept, up.Import.LocalPref = some(d, 2, PrefixRule{Prefix: prefix("10.244.0.0/16")}, PrefixRule{Prefix: prefix("fd00::/8")}), uint32(d.IntN(3)*60)
		case 3:
			up.Export.Own, up.Export.MED = d.IntN(4) > 0, uint32(d.IntN(3))
		case 4:
			others[1].Passive = !others[1].Passive
		case 5:
			byHand(t, d, x, moved)
			continue
		}
		x.setPeers(append(others, up))
	}
	agree(t, in, []hop{{ebgp, x}})
	eventually(t, func() string { return disagreement(t, out, []hop{{x, ebgp}}) })
	for o, at := range since {
		if p := x.peer(o.addr); p.Flaps != 0 || !p.Since.Equal(at) {
			t.Errorf("session to %s: %d flaps, up since %s, want 0 since %s", p.Name, p.Flaps, p.Since, at)
		}
	}
}

// byHand does to a session what the admin service can.
func byHand(t *testing.T, d dice, x, moved *node) {
	t.Helper()
	var err error
	switch d.IntN(3) {
	case 0:
		err = x.Hold(t.Context(), moved.addr, "test", "a random edit")
	case 1:
		err = x.Release(t.Context(), moved.addr, "test")
	case 2:
		err = x.Reset(t.Context(), moved.addr, "a random edit")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestLargeCommunitiesApart: what one peer is given in an export is not sent
// to another.
func TestLargeCommunitiesApart(t *testing.T) {
	n := startNodes(t, testConfig(t, "127.37.0.1"), testConfig(t, "127.37.0.2"), testConfig(t, "127.37.0.3"), testConfig(t, "127.37.0.4"))
	rr, source, one, two := n[0], n[1], n[2], n[3]
	adds := func(c ...string) []Filter {
		return []Filter{{Name: "add", Rules: []FilterRule{{Set: Set{LargeCommunities: CommunityChange{Add: c}}, Action: Accept}}}}
	}
	var peers []Peer
	for _, o := range []*node{source, one, two} {
		p := from(to(o.addr.String(), Client), rr.addr.String())
		if o == source { // three of them leave the list of the path in the table room for one more
			p.Import.Filters = adds("1:1:3")
		} else {
			p.Export.Filters = adds("9:9:" + strings.TrimPrefix(o.addr.String(), "127.37.0."))
		}
		peers = append(peers, p)
		o.setPeers([]Peer{from(to(rr.addr.String(), IBGP), o.addr.String())})
	}
	rr.setPeers(peers)
	rr.waitUp(source.addr, one.addr, two.addr)
	const routes = 60
	for i := range routes {
		source.announce(Route{
			Prefix: prefix(fmt.Sprintf("10.244.%d.0/24", i)), NextHop: addr("192.0.2.1"), Origin: "igp",
			LargeCommunities: []string{"1:1:1", "1:1:2"},
		})
	}
	for o, mark := range map[*node]string{one: "9:9:3", two: "9:9:4"} {
		eventually(t, func() string {
			for i := range routes {
				p := prefix(fmt.Sprintf("10.244.%d.0/24", i))
				if got := o.held(p); !strings.Contains(got, "[1:1:1 1:1:2 1:1:3 "+mark+"]") {
					return fmt.Sprintf("%s holds %q, want %s", o.addr, got, mark)
				}
			}
			return ""
		})
	}
}
