package bgp

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"onlink/bgp/policy"
	"onlink/bgp/session"
)

// TestFilterRules: every match and every change, with the result written out:
// the results that TestEvaluatorIsTheEngine finds equal are also right. The ToR
// announces one route for each case; the rule of a case matches that prefix too.
func TestFilterRules(t *testing.T) {
	tor := dual(t, "127.33.0.1", "2001:db8::100")
	tor.ASN = 65001
	n := startNodes(t, tor, dual(t, "127.33.0.2", "2001:db8::200"))
	nine := uint32(9)
	const plain = "via 127.33.0.1 path [65001] pref 100 med 0 communities [] [] origin igp"
	tests := []struct {
		name   string
		export bool // the rule is the ToR's, for export
		sent   policy.Route
		rule   policy.Rule
		want   string
	}{
		{"accept", false, policy.Route{}, policy.Rule{Action: policy.Accept}, plain},
		{"reject", false, policy.Route{}, policy.Rule{Action: policy.Reject}, ""},
		{"next falls to accept lists, which have nothing", false, policy.Route{}, policy.Rule{Set: policy.Set{LocalPref: 7}, Action: policy.Next}, ""},
		{"community", false, policy.Route{Communities: []string{"1:1", "1:2"}}, policy.Rule{Match: policy.Match{Communities: []string{"1:2", "1:3"}}, Action: policy.Accept}, strings.Replace(plain, "[] []", "[1:1 1:2] []", 1)},
		{"other community", false, policy.Route{Communities: []string{"1:1"}}, policy.Rule{Match: policy.Match{Communities: []string{"1:2", "1:3"}}, Action: policy.Accept}, ""},
		{"not a part of a community", false, policy.Route{Communities: []string{"11:22"}}, policy.Rule{Match: policy.Match{Communities: []string{"1:2"}}, Action: policy.Accept}, ""},
		{"community by expression", false, policy.Route{Communities: []string{"64512:117"}}, policy.Rule{Match: policy.Match{Communities: []string{"^64512:1..$"}}, Action: policy.Accept}, strings.Replace(plain, "[] []", "[64512:117] []", 1)},
		{"large community", false, policy.Route{LargeCommunities: []string{"1:2:3"}}, policy.Rule{Match: policy.Match{LargeCommunities: []string{"1:2:3"}}, Action: policy.Accept}, strings.Replace(plain, "[] []", "[] [1:2:3]", 1)},
		{"one of both kinds is not both", false, policy.Route{LargeCommunities: []string{"1:2:3"}}, policy.Rule{Match: policy.Match{Communities: []string{"1:2"}, LargeCommunities: []string{"1:2:3"}}, Action: policy.Accept}, ""},
		{"first AS", false, policy.Route{ASPath: "65010"}, policy.Rule{Match: policy.Match{ASPath: []string{"^65001_65010_"}}, Action: policy.Accept}, strings.Replace(plain, "[65001]", "[65001 65010]", 1)},
		{"no part of an AS", false, policy.Route{ASPath: "65010"}, policy.Rule{Match: policy.Match{ASPath: []string{"_6501_", "_5010$"}}, Action: policy.Accept}, ""},
		{"AS in a set", false, policy.Route{ASPath: "{65010,65011}"}, policy.Rule{Match: policy.Match{ASPath: []string{"_65011_"}}, Action: policy.Accept}, strings.Replace(plain, "[65001]", "[65001 {65010,65011}]", 1)},
		{"local pref", false, policy.Route{}, policy.Rule{Set: policy.Set{LocalPref: 300}, Action: policy.Accept}, strings.Replace(plain, "pref 100", "pref 300", 1)},
		{"local pref of graceful shutdown", false, policy.Route{Communities: []string{"65535:0"}}, policy.Rule{Set: policy.Set{LocalPref: 300}, Action: policy.Accept}, strings.Replace(strings.Replace(plain, "pref 100", "pref 1", 1), "[] []", "[65535:0] []", 1)},
		{"med", false, policy.Route{}, policy.Rule{Set: policy.Set{MED: &nine}, Action: policy.Accept}, strings.Replace(plain, "med 0", "med 9", 1)},
		{"origin", false, policy.Route{}, policy.Rule{Set: policy.Set{Origin: "egp"}, Action: policy.Accept}, strings.Replace(plain, "origin igp", "origin egp", 1)},
		{"add", false, policy.Route{Communities: []string{"1:1"}}, policy.Rule{Set: policy.Set{Communities: policy.CommunityChange{Add: []string{"1:2"}}, LargeCommunities: policy.CommunityChange{Add: []string{"1:2:3"}}}, Action: policy.Accept}, strings.Replace(plain, "[] []", "[1:1 1:2] [1:2:3]", 1)},
		{"remove", false, policy.Route{Communities: []string{"1:1", "2:1", "2:2"}}, policy.Rule{Set: policy.Set{Communities: policy.CommunityChange{Remove: []string{"1:1", "^2:.*1$"}}}, Action: policy.Accept}, strings.Replace(plain, "[] []", "[2:2] []", 1)},
		{"remove what was matched, and add", false, policy.Route{Communities: []string{"1:1"}}, policy.Rule{Match: policy.Match{Communities: []string{"1:1"}}, Set: policy.Set{Communities: policy.CommunityChange{Remove: []string{"1:1"}, Add: []string{"1:2"}}}, Action: policy.Accept}, strings.Replace(plain, "[] []", "[1:2] []", 1)},
		{"replace", false, policy.Route{Communities: []string{"1:1"}, LargeCommunities: []string{"1:1:1"}}, policy.Rule{Set: policy.Set{Communities: policy.CommunityChange{Replace: []string{"1:2"}}, LargeCommunities: policy.CommunityChange{Replace: []string{"1:2:3"}}}, Action: policy.Accept}, strings.Replace(plain, "[] []", "[1:2] [1:2:3]", 1)},
		{"prepend on import", false, policy.Route{}, policy.Rule{Set: policy.Set{Prepend: 1}, Action: policy.Accept}, strings.Replace(plain, "[65001]", "[64512 65001]", 1)},
		{"next hop by address", false, policy.Route{}, policy.Rule{Set: policy.Set{NextHop: policy.NextHop{Kind: policy.NextHopAddress, Addr: addr("192.0.2.7")}}, Action: policy.Accept}, strings.Replace(plain, "127.33.0.1", "192.0.2.7", 1)},
		{"prepend on export", true, policy.Route{}, policy.Rule{Set: policy.Set{Prepend: 2}, Action: policy.Accept}, strings.Replace(plain, "[65001]", "[65001 65001 65001]", 1)},
		{"reject on export", true, policy.Route{}, policy.Rule{Action: policy.Reject}, ""},
		{"next hop unchanged", true, policy.Route{}, policy.Rule{Set: policy.Set{NextHop: policy.NextHop{Kind: policy.NextHopUnchanged}}, Action: policy.Accept}, strings.Replace(plain, "127.33.0.1", "192.0.2.1", 1)},
		{"local pref is not sent", true, policy.Route{}, policy.Rule{Set: policy.Set{LocalPref: 300}, Action: policy.Accept}, plain},
		{"no export stays", true, policy.Route{Communities: []string{"65535:65281"}}, policy.Rule{Action: policy.Accept}, ""},
		{"replace leaves graceful shutdown", true, policy.Route{Communities: []string{"1:1", "65535:0"}}, policy.Rule{Set: policy.Set{Communities: policy.CommunityChange{Replace: []string{"1:2"}}}, Action: policy.Accept}, strings.Replace(strings.Replace(plain, "pref 100", "pref 1", 1), "[] []", "[1:2 65535:0] []", 1)},
	}
	in, out := policy.Filter{Name: "in"}, policy.Filter{Name: "out"}
	routes := make([]policy.Route, len(tests))
	for i, tt := range tests {
		p := prefix(fmt.Sprintf("10.250.%d.0/24", i))
		routes[i] = tt.sent
		routes[i].Prefix, routes[i].NextHop, routes[i].Origin = p, addr("192.0.2.1"), "igp"
		rule := tt.rule
		rule.Match.Prefixes = []policy.PrefixRule{{Prefix: p}}
		if tt.export {
			out.Rules = append(out.Rules, rule)
			rule = policy.Rule{Match: policy.Match{Prefixes: rule.Match.Prefixes}, Action: policy.Accept}
		}
		in.Rules = append(in.Rules, rule)
	}
	n[0].setPeers([]Peer{{Name: "x", Address: n[1].addr, Port: testPort, Session: Session{
		Role: EBGP, ASN: 64512, Options: session.Options{LocalAddress: n[0].addr}, Export: policy.Export{Own: true, Filters: []policy.Filter{out}},
	}}})
	n[1].setPeers([]Peer{{Name: "tor", Address: n[0].addr, Port: testPort, Session: Session{
		Role: EBGP, ASN: 65001, Options: session.Options{LocalAddress: n[1].addr},
		Import: policy.Import{Filters: []policy.Filter{in, {Name: "marker", Rules: []policy.Rule{{Match: policy.Match{Prefixes: []policy.PrefixRule{{Prefix: marker.Prefix}}}, Action: policy.Accept}}}}},
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

// TestEditsResetNothing: a hundred random edits of filters, lists and other
// peers, by configuration and by hand, reset no session that they do not name,
// and leave the last policy in force.
func TestEditsResetNothing(t *testing.T) {
	tor := dual(t, "127.34.0.2", "2001:db8::102")
	tor.ASN = 65001
	n := startNodes(t, dual(t, "127.34.0.1", "2001:db8::101"), tor, dual(t, "127.34.0.3", "2001:db8::103"), dual(t, "127.34.0.4", "2001:db8::104"))
	x, ebgp, still, moved := n[0], n[1], n[2], n[3]
	up := Peer{Name: "tor", Address: ebgp.addr, Port: testPort, Session: Session{Role: EBGP, ASN: 65001, Options: session.Options{LocalAddress: x.addr}, Export: policy.Export{Own: true}}}
	down := Peer{Name: "x", Address: x.addr, Port: testPort, Session: Session{
		Role: EBGP, ASN: 64512, Options: session.Options{LocalAddress: ebgp.addr}, Export: policy.Export{Own: true},
		Import: policy.Import{Accept: []policy.PrefixRule{{Prefix: prefix("0.0.0.0/0"), Ge: 8}, {Prefix: prefix("::/0"), Ge: 8}}},
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
	var in, out []policy.Route
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
			up.Import.Accept, up.Import.LocalPref = some(d, 2, policy.PrefixRule{Prefix: prefix("10.244.0.0/16")}, policy.PrefixRule{Prefix: prefix("fd00::/8")}), uint32(d.IntN(3)*60)
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

// byHand calls a random operation of the admin service on a session.
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

// TestLargeCommunitiesApart: the communities that an export adds for one peer are
// not sent to another.
func TestLargeCommunitiesApart(t *testing.T) {
	n := startNodes(t, testConfig(t, "127.37.0.1"), testConfig(t, "127.37.0.2"), testConfig(t, "127.37.0.3"), testConfig(t, "127.37.0.4"))
	rr, source, one, two := n[0], n[1], n[2], n[3]
	adds := func(c ...string) []policy.Filter {
		return []policy.Filter{{Name: "add", Rules: []policy.Rule{{Set: policy.Set{LargeCommunities: policy.CommunityChange{Add: c}}, Action: policy.Accept}}}}
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
		source.announce(policy.Route{
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
