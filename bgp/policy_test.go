package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestPolicyRefusals: what must not pass does not pass, in either direction.
// x is an AS 64512 node; tor is its AS 65001 ToR, tor2 a second ToR, peer an
// iBGP neighbour.
func TestPolicyRefusals(t *testing.T) {
	tor, tor2 := testConfig(t, "127.10.0.1"), testConfig(t, "127.10.0.2")
	tor.ASN, tor2.ASN = 65001, 65002
	tor.Pools, tor2.Pools = nil, nil
	n := startNodes(t, testConfig(t, "127.10.0.9"), tor, tor2, testConfig(t, "127.10.0.3"))
	x, t1, t2, p := n[0], n[1], n[2], n[3]

	ebgp := func(to string, asn uint32, local string, imp Import, exp Export) Peer {
		return Peer{Name: "to-" + to, Address: addr(to), Port: testPort, Session: Session{
			Role: EBGP, ASN: asn, LocalAddress: addr(local), Import: imp, Export: exp,
		}}
	}
	all := Import{Accept: []PrefixRule{{Prefix: prefix("0.0.0.0/0"), Ge: 1, Le: 32}, {Prefix: prefix("0.0.0.0/0")}}}
	own := Export{Own: true}
	x.originate("10.244.1.0/26")
	p.originate("10.244.2.0/26", "10.244.1.0/28", "172.20.0.0/24")
	t1.originate("172.16.1.0/24", "192.168.0.0/16", "10.244.7.0/26")
	t2.originate("172.16.2.0/24")
	t1.setPeers([]Peer{ebgp("127.10.0.9", 64512, "127.10.0.1", all, own)})
	t2.setPeers([]Peer{ebgp("127.10.0.9", 64512, "127.10.0.2", all, own)})
	p.setPeers([]Peer{from(to("127.10.0.9", IBGP), "127.10.0.3")})

	ibgp := from(to("127.10.0.3", IBGP), "127.10.0.9")
	peers := func(imp Import, exp Export) []Peer {
		return []Peer{ibgp, ebgp("127.10.0.1", 65001, "127.10.0.9", imp, exp), ebgp("127.10.0.2", 65002, "127.10.0.9", imp, exp)}
	}
	x.setPeers(peers(Import{}, Export{}))
	x.waitUp(t1.addr, t2.addr, p.addr)

	// RFC 8212: nothing in, nothing out. Of the iBGP peer only what is inside
	// the pools and not inside our own block.
	x.waitRoutes("10.244.2.0/26 via 127.10.0.3")
	p.waitRoutes("10.244.1.0/26 via 127.10.0.9")
	t1.waitRoutes()

	// With permission: own prefixes out, allowed prefixes in, and no transit:
	// a ToR hears neither the other ToR's routes nor the iBGP peer's, and the
	// iBGP peer hears no ToR's.
	// The narrower rule, which takes none of it, must not hide the wider one.
	x.setPeers(peers(Import{Accept: []PrefixRule{{Prefix: prefix("172.16.0.0/12"), Ge: 24, Le: 24}, {Prefix: prefix("172.16.0.0/16"), Ge: 25}}},
		Export{Own: true, Communities: []string{"64512:100", "64512:7:8"}, MED: 50}))
	x.waitRoutes("10.244.2.0/26 via 127.10.0.3", "172.16.1.0/24 via 127.10.0.1", "172.16.2.0/24 via 127.10.0.2")
	t1.waitRoutes("10.244.1.0/26 via 127.10.0.9")
	t2.waitRoutes("10.244.1.0/26 via 127.10.0.9")
	eventually(t, func() string {
		got := t1.Paths(t.Context(), prefix("10.244.1.0/26"))
		if len(got) != 1 || fmt.Sprint(got[0].Communities) != "[64512:100 64512:7:8]" || got[0].MED != 50 || got[0].ASPath != "64512" || !got[0].EBGP {
			return fmt.Sprintf("path at the ToR: %+v", got)
		}
		return ""
	})
	if got := p.routes(); fmt.Sprint(got) != "[10.244.1.0/26 via 127.10.0.9]" {
		t.Errorf("the iBGP peer got %q, want only our own block", got)
	}
	for _, u := range x.Paths(t.Context(), prefix("172.16.1.0/24")) {
		if u.LocalPref != 100 || !u.EBGP {
			t.Errorf("path from the ToR: %+v, want LOCAL_PREF 100", u)
		}
	}

	// Taking the permission back takes the routes back, without a reset.
	since := x.peer(t1.addr).Since
	x.setPeers(peers(Import{}, Export{}))
	x.waitRoutes("10.244.2.0/26 via 127.10.0.3")
	t1.waitRoutes()
	if got := x.peer(t1.addr).Since; !got.Equal(since) {
		t.Errorf("session reset by a policy change")
	}

	// A released block may be somebody else's from then on, also a part of it.
	x.originate()
	x.waitRoutes("10.244.2.0/26 via 127.10.0.3", "10.244.1.0/28 via 127.10.0.3")
}

// TestReflectorKeepsTransitOut: a reflector with a ToR does not announce its
// clients' blocks to the ToR, nor the ToR's routes to its clients.
func TestReflectorKeepsTransitOut(t *testing.T) {
	tor := testConfig(t, "127.11.1.1")
	tor.ASN, tor.Pools = 65001, nil
	n := startNodes(t, testConfig(t, "127.11.0.1"), testConfig(t, "127.11.0.2"), testConfig(t, "127.11.0.3"), tor)
	rr, a, b, t1 := n[0], n[1], n[2], n[3]
	rr.originate("10.244.0.0/26")
	a.originate("10.244.1.0/26")
	t1.originate("172.16.0.0/24")
	wide := Import{Accept: []PrefixRule{{Prefix: prefix("0.0.0.0/0"), Ge: 8, Le: 32}}}
	up := Peer{Name: "tor", Address: t1.addr, Port: testPort, Session: Session{Role: EBGP, ASN: 65001, LocalAddress: rr.addr, Import: wide, Export: Export{Own: true}}}
	down := Peer{Name: "rr", Address: rr.addr, Port: testPort, Session: Session{Role: EBGP, ASN: 64512, LocalAddress: t1.addr, Import: wide, Export: Export{Own: true}}}
	rr.setPeers([]Peer{up}, clientsOf("127.11.0.0/24"))
	t1.setPeers([]Peer{down})
	for _, c := range []*node{a, b} {
		c.setPeers([]Peer{from(to("127.11.0.1", IBGP), c.addr.String())})
	}
	rr.waitRoutes("10.244.1.0/26 via 127.11.0.2", "172.16.0.0/24 via 127.11.1.1")
	b.waitUp(rr.addr)
	b.waitRoutes("10.244.0.0/26 via 127.11.0.1", "10.244.1.0/26 via 127.11.0.2")
	t1.waitRoutes("10.244.0.0/26 via 127.11.0.1")
}

func TestPrefixRule(t *testing.T) {
	tests := []struct {
		name   string
		rule   PrefixRule
		prefix string
		want   bool
	}{
		{"itself", PrefixRule{Prefix: prefix("10.0.0.0/8")}, "10.0.0.0/8", true},
		{"inside", PrefixRule{Prefix: prefix("10.0.0.0/8")}, "10.1.2.3/32", true},
		{"outside", PrefixRule{Prefix: prefix("10.0.0.0/8")}, "11.0.0.0/8", false},
		{"shorter", PrefixRule{Prefix: prefix("10.0.0.0/8")}, "0.0.0.0/0", false},
		{"ge", PrefixRule{Prefix: prefix("10.0.0.0/8"), Ge: 24}, "10.1.0.0/16", false},
		{"ge alone means up to 32", PrefixRule{Prefix: prefix("10.0.0.0/8"), Ge: 24}, "10.1.0.0/26", true},
		{"le", PrefixRule{Prefix: prefix("10.0.0.0/8"), Le: 16}, "10.1.0.0/24", false},
		{"default alone", PrefixRule{Prefix: prefix("0.0.0.0/0")}, "0.0.0.0/0", true},
		{"default does not mean everything", PrefixRule{Prefix: prefix("0.0.0.0/0")}, "10.0.0.0/8", false},
		{"everything but the default", PrefixRule{Prefix: prefix("0.0.0.0/0"), Ge: 1}, "0.0.0.0/0", false},
		{"everything", PrefixRule{Prefix: prefix("0.0.0.0/0"), Ge: 1}, "10.0.0.0/8", true},
		{"family", PrefixRule{Prefix: prefix("::/0"), Ge: 1}, "10.0.0.0/8", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.rule.Matches(prefix(tt.prefix)); got != tt.want {
				t.Errorf("%+v matches %s: %t, want %t", tt.rule, tt.prefix, got, tt.want)
			}
		})
	}
}

// TestEveryClassHasNeighbours: to the engine a statement with an empty
// neighbour set is for all peers, so a plan must never hold one.
func TestEveryClassHasNeighbours(t *testing.T) {
	c := testConfig(t, "127.12.0.1")
	s := Session{Role: IBGP}.withDefaults(&c)
	tor := Session{Role: EBGP, ASN: 65001, Import: Import{Accept: []PrefixRule{{Prefix: prefix("10.0.0.0/8")}}}}.withDefaults(&c)
	peers := []Peer{
		{Name: "a", Address: addr("10.0.0.1"), Session: s},
		{Name: "b", Address: addr("10.0.0.2"), Session: s},
		{Name: "c", Address: addr("fd00::1"), Session: s},
		{Name: "d", Address: addr("10.0.0.3"), Session: tor},
	}
	dynamics := []Dynamic{
		{Name: "wide", Prefix: prefix("10.0.0.0/8"), Session: s}, {Name: "narrow", Prefix: prefix("10.9.0.0/16"), Session: s},
	}
	plan := planPolicy(&c, peers, dynamics, []Origin{{Prefix: prefix("10.244.0.0/26")}})
	var got []string
	for _, k := range plan.classes {
		got = append(got, fmt.Sprint(k.neighbors))
	}
	want := "[[10.0.0.1/32 10.0.0.2/32] [fd00::1/128] [10.0.0.3/32] [10.9.0.0/16] [10.0.0.0/8]]"
	if fmt.Sprint(got) != want {
		t.Errorf("classes %s, want %s", got, want)
	}
	for _, st := range append(plan.build(1).imports, plan.build(1).exports...) {
		if set := st.GetConditions().GetNeighborSet(); set != nil && set.GetName() == "" {
			t.Errorf("statement %s names no neighbour set", st.GetName())
		}
	}
}

// TestMaxPrefixes: a peer over its limit is held down and says why.
func TestMaxPrefixes(t *testing.T) {
	n := startNodes(t, testConfig(t, "127.13.0.1"), testConfig(t, "127.13.0.2"))
	p := from(to("127.13.0.2", IBGP), "127.13.0.1")
	p.Import.MaxPrefixes = 2
	n[1].originate("10.244.1.0/26", "10.244.2.0/26", "10.244.3.0/26")
	n[0].setPeers([]Peer{p})
	n[1].setPeers([]Peer{from(to("127.13.0.1", IBGP), "127.13.0.2")})
	eventually(t, func() string {
		st := n[0].peer(n[1].addr)
		if st.State != "Idle" || st.LastError == "" || st.ErrorAt.After(time.Now()) {
			return fmt.Sprintf("state %s, last error %q", st.State, st.LastError)
		}
		return ""
	})
}

// TestFlatten: the entries of the longest prefix around a route are enough to
// know what all rules say, for every route around the rules' edges.
func TestFlatten(t *testing.T) {
	rules := []PrefixRule{
		{Prefix: prefix("10.1.0.0/16"), Ge: 20, Le: 24},
		{Prefix: prefix("0.0.0.0/0")},
		{Prefix: prefix("10.0.0.0/8"), Ge: 9, Le: 22},
		{Prefix: prefix("10.2.0.0/16")},
		{Prefix: prefix("10.1.0.0/16"), Ge: 30},
		{Prefix: prefix("10.1.1.0/24"), Ge: 26, Le: 27},
		{Prefix: prefix("11.0.0.0/8"), Ge: 8, Le: 8},
		{Prefix: prefix("10.1.1.0/24"), Ge: 26, Le: 27},
	}
	flat := flatten(rules)
	asked := func(p netip.Prefix) bool {
		longest := -1
		for _, f := range flat {
			if contains(f.prefix, p) {
				longest = max(longest, f.prefix.Bits())
			}
		}
		return slices.ContainsFunc(flat, func(f prefixRange) bool {
			return f.prefix.Bits() == longest && contains(f.prefix, p) && f.lo <= p.Bits() && p.Bits() <= f.hi
		})
	}
	matched := 0
	for _, a := range []string{"0.0.0.0", "10.0.0.0", "10.1.0.0", "10.1.1.0", "10.1.1.128", "10.1.2.0", "10.2.0.0", "10.3.0.0", "11.0.0.0", "12.0.0.0"} {
		for bits := range 33 {
			p := netip.PrefixFrom(addr(a), bits).Masked()
			want := slices.ContainsFunc(rules, func(r PrefixRule) bool { return r.Matches(p) })
			if got := asked(p); got != want {
				t.Errorf("%s: matched %t, want %t", p, got, want)
			}
			if want {
				matched++
			}
		}
	}
	if matched < 50 {
		t.Errorf("only %d routes matched: the test shows little", matched)
	}
}
