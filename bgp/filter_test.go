package bgp

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"onlink/bgp/policy"
	"onlink/bgp/session"
)

// announce makes the engine originate r as it is, as another implementation might.
func (n *node) announce(r policy.Route) {
	n.t.Helper()
	if err := n.engine.Announce(&r); err != nil {
		n.t.Fatal(err)
	}
}

// lineOf writes the attributes of a route that can be compared after an
// announcement.
func lineOf(r policy.Route) string {
	pref, med := uint32(100), uint32(0)
	if r.LocalPref != nil {
		pref = *r.LocalPref
	}
	if r.MED != nil {
		med = *r.MED
	}
	return fmt.Sprintf("%s via %s path [%s] pref %d med %d communities %v %v origin %s",
		r.Prefix, r.NextHop, r.ASPath, pref, med, r.Communities, r.LargeCommunities, r.Origin)
}

// held returns the line of the node's path to a prefix, "" when it has none.
func (n *node) held(p netip.Prefix) string {
	paths := n.Paths(n.t.Context(), p)
	if len(paths) == 0 {
		return ""
	}
	i := paths[0]
	r := policy.Route{Prefix: i.Prefix, NextHop: i.NextHop, ASPath: i.ASPath, LocalPref: &i.LocalPref, MED: &i.MED, Origin: i.Origin}
	r.Communities, r.LargeCommunities = policy.SplitCommunities(i.Communities)
	return lineOf(r)
}

// hop is one session on a route's way.
type hop struct {
	from, to *node
}

// verdicts follows a route along the hops by the evaluator alone. It returns the
// route of the last node, "" for none, and the rules that decided on the way.
func verdicts(t *testing.T, r policy.Route, hops []hop) (line string, rules []string) {
	t.Helper()
	for _, h := range hops {
		r.Source = policy.Reflected
		if h == hops[0] {
			r.Source = policy.Own
		}
		out, err := h.from.TestExport(t.Context(), h.to.addr.String(), r)
		if err != nil {
			t.Fatal(err)
		}
		if rules = append(rules, "export: "+out.Rule); !out.Accepted {
			return "", rules
		}
		in, err := h.to.TestImport(t.Context(), h.from.addr.String(), out.After)
		if err != nil {
			t.Fatal(err)
		}
		if rules = append(rules, "import: "+in.Rule); !in.Accepted {
			return "", rules
		}
		r = in.After
	}
	return lineOf(r), rules
}

// disagreement returns the first route of the last node that differs from the
// evaluator's; "" for none.
func disagreement(t *testing.T, routes []policy.Route, hops []hop) string {
	t.Helper()
	for _, r := range routes {
		want, rules := verdicts(t, r, hops)
		if got := hops[len(hops)-1].to.held(r.Prefix); got != want {
			return fmt.Sprintf("sent   %s\nheld   %s\nwanted %s\nby %q", lineOf(r), got, want, rules)
		}
	}
	return ""
}

// agree waits until the last node has exactly the evaluator's routes, and returns
// how often each rule decided.
func agree(t *testing.T, routes []policy.Route, hops []hop) map[string]int {
	t.Helper()
	last := hops[len(hops)-1].to
	counts := map[string]int{}
	for _, r := range routes {
		want, rules := verdicts(t, r, hops)
		for _, rule := range rules {
			counts[rule]++
		}
		if want != "" {
			counts["arrived"]++
		}
	}
	compare := func() string { return disagreement(t, routes, hops) }
	eventually(t, compare)
	// A route that must not arrive might still come: a later one marks the time.
	for _, h := range hops {
		if v, _ := verdicts(t, marker, hops); v == "" {
			t.Fatalf("the marker would not arrive from %s", h.from.addr)
		}
	}
	hops[0].from.announce(marker)
	eventually(t, func() string {
		if last.held(marker.Prefix) == "" {
			return "the marker has not arrived"
		}
		return ""
	})
	if text := compare(); text != "" {
		t.Errorf("after the marker: %s", text)
	}
	return counts
}

// marker is accepted by the first rule of every random filter.
var marker = policy.Route{Prefix: netip.MustParsePrefix("10.244.255.255/32"), NextHop: netip.MustParseAddr("192.0.2.99"), Origin: "igp"}

// direction of a policy, seen from the speaker.
type direction uint8

const (
	importing direction = iota
	exporting
)

// dice makes random routes and filters from few values, so that they meet.
type dice struct{ *rand.Rand }

func pick[T any](d dice, list ...T) T { return list[d.IntN(len(list))] }

// some returns up to n different values.
func some[T any](d dice, n int, list ...T) []T {
	var out []T
	for _, i := range d.Perm(len(list))[:d.IntN(n+1)] {
		out = append(out, list[i])
	}
	return out
}

var (
	diceStd   = []string{"64512:100", "64512:101", "64512:200", "65001:7", "65001:8", "64512:300"}
	diceKnown = []string{"65535:65281", "65535:65282", "65535:0", "65535:0"}
	diceLarge = []string{"64512:1:2", "64512:1:3", "65001:0:4294967295"}
	dicePaths = []string{
		"", "", "65010", "65010 65020", "65020 65010", "65010 {65030,65040}", "65030 65010 65030",
		"65020", "", "65010", "65040 {65010}", "65010 64512",
	}
)

func (d dice) route(i int) policy.Route {
	bits := pick(d, 24, 25, 26, 28, 32)
	p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i), byte(d.IntN(256))}), bits).Masked()
	r := policy.Route{NextHop: netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + d.IntN(3))}), Origin: pick(d, policy.Origins()...)}
	switch d.IntN(4) {
	case 0:
		p = netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i), byte(d.IntN(256))}), bits).Masked()
	case 1:
		p = netip.PrefixFrom(addr(fmt.Sprintf("fd00:%s:%x::", pick(d, "244", "99"), i)), pick(d, 48, 56, 64)).Masked()
		r.NextHop = addr(fmt.Sprintf("2001:db8::%d", 1+d.IntN(3)))
	}
	r.Prefix, r.ASPath = p, pick(d, dicePaths...)
	if d.IntN(2) == 0 {
		med := uint32(1 + d.IntN(100))
		r.MED = &med
	}
	if d.IntN(3) == 0 {
		pref := uint32(50 + d.IntN(200))
		r.LocalPref = &pref
	}
	r.Communities, r.LargeCommunities = some(d, 3, diceStd...), some(d, 2, diceLarge...)
	if d.IntN(6) == 0 {
		r.Communities = append(r.Communities, pick(d, diceKnown...))
	}
	return r
}

func (d dice) filters(dir direction, role Role) []policy.Filter {
	list := []policy.Filter{{Name: "marker", Rules: []policy.Rule{{
		Match: policy.Match{Prefixes: []policy.PrefixRule{{Prefix: marker.Prefix}}}, Action: policy.Accept,
	}}}}
	for i := range 2 {
		f := policy.Filter{Name: fmt.Sprintf("random%d", i)}
		for range 9 {
			f.Rules = append(f.Rules, d.rule(dir, role))
		}
		list = append(list, f)
	}
	return list
}

func (d dice) rule(dir direction, role Role) policy.Rule {
	r := policy.Rule{Action: pick(d, policy.Accept, policy.Accept, policy.Reject, policy.Next, policy.Next, policy.Next, policy.Next, policy.Next)}
	for len(r.Match.Prefixes)+len(r.Match.Communities)+len(r.Match.LargeCommunities)+len(r.Match.ASPath) == 0 {
		r.Match = policy.Match{
			Prefixes: some(d, 3, policy.PrefixRule{Prefix: prefix("10.244.0.0/16"), Ge: 26, Le: 28}, policy.PrefixRule{Prefix: prefix("10.244.0.0/17")},
				policy.PrefixRule{Prefix: prefix("172.16.0.0/12"), Le: 25}, policy.PrefixRule{Prefix: prefix("172.16.0.0/18"), Ge: 32},
				policy.PrefixRule{Prefix: prefix("fd00:99::/32")}, policy.PrefixRule{Prefix: prefix("fd00::/16"), Ge: 56}),
			Communities:      some(d, 2, append(slices.Clone(diceStd), "^64512:1..$", "^65001:.*$", "65535:0")...),
			LargeCommunities: some(d, 2, append(slices.Clone(diceLarge), "^64512:1:.*$")...),
		}
		if dir == importing || role != EBGP {
			r.Match.ASPath = some(d, 1, "_65010_", "^65001$", "^65001_65010", "_65030$", "_65040_", "^$", "^65010_")
		}
	}
	if d.IntN(3) == 0 {
		r.Match.Prefixes = nil
	}
	if dir == exporting && d.IntN(3) == 0 {
		r.Match.Source = pick(d, policy.Own, policy.Reflected)
	}
	if r.Action != policy.Reject {
		r.Set = d.set(dir, role, r.Action)
	}
	if r.Action == policy.Next && reflect.DeepEqual(r.Set, policy.Set{}) {
		r.Action = policy.Accept // next with no set is a fault
	}
	return r
}

func (d dice) set(dir direction, role Role, a policy.Action) policy.Set {
	s := policy.Set{}
	if d.IntN(3) == 0 {
		s.LocalPref = uint32(1 + d.IntN(300))
	}
	if d.IntN(3) == 0 {
		med := uint32(d.IntN(300))
		s.MED = &med
	}
	if role == EBGP && d.IntN(3) == 0 {
		s.Prepend = uint8(d.IntN(3))
	}
	if d.IntN(3) == 0 {
		s.Origin = pick(d, policy.Origins()...)
	}
	s.Communities = d.change(a, "^64512:1..$", diceStd[:4]...)
	s.LargeCommunities = d.change(a, "^64512:.*$", diceLarge...)
	kinds := []policy.NextHopKind{policy.NextHopKeep, policy.NextHopKeep, policy.NextHopSelf, policy.NextHopUnchanged, policy.NextHopAddress}
	if dir == importing {
		kinds = []policy.NextHopKind{policy.NextHopKeep, policy.NextHopKeep, policy.NextHopPeer, policy.NextHopAddress}
	}
	if s.NextHop.Kind = pick(d, kinds...); s.NextHop.Kind == policy.NextHopAddress {
		s.NextHop.Addr = addr(pick(d, "192.0.2.77", "2001:db8::77"))
	}
	return s
}

// change is any change of communities that is valid.
func (d dice) change(a policy.Action, expression string, list ...string) policy.CommunityChange {
	switch d.IntN(5) {
	case 0:
		return policy.CommunityChange{Add: some(d, 2, list...)}
	case 1:
		return policy.CommunityChange{Remove: []string{expression}}
	case 2:
		return policy.CommunityChange{Remove: []string{list[0]}, Add: []string{list[1]}}
	case 3:
		if a == policy.Accept {
			return policy.CommunityChange{Replace: some(d, 2, list...)}
		}
	}
	return policy.CommunityChange{}
}

// dual is testConfig with an IPv6 next hop too.
func dual(t *testing.T, at, v6 string) Config {
	t.Helper()
	c := testConfig(t, at)
	c.NodeAddress6 = addr(v6)
	return c
}

// TestEvaluatorIsTheEngine sends random routes through random filters between
// real speakers and compares them with the evaluator's, attribute by attribute.
func TestEvaluatorIsTheEngine(t *testing.T) {
	const routes = 120
	total := map[string]int{}
	for seed := range uint64(3) {
		d := dice{rand.New(rand.NewPCG(seed, 4))}
		t.Run(fmt.Sprintf("ebgp seed %d", seed), func(t *testing.T) {
			tor := dual(t, "127.30.0.1", "2001:db8::100")
			tor.ASN = 65001
			n := startNodes(t, tor, dual(t, "127.30.0.2", "2001:db8::200"))
			accept := []policy.PrefixRule{{Prefix: prefix("10.244.0.0/18")}, {Prefix: prefix("fd00:244::/32"), Le: 56}}
			n[0].setPeers([]Peer{{Name: "x", Address: n[1].addr, Port: testPort, Session: Session{
				Role: EBGP, ASN: 64512, Options: session.Options{LocalAddress: n[0].addr},
				Export: policy.Export{Own: seed != 1, Communities: []string{"65001:7", "65001:1:1"}, MED: 5, Filters: d.filters(exporting, EBGP)},
			}}})
			n[1].setPeers([]Peer{{Name: "tor", Address: n[0].addr, Port: testPort, Session: Session{
				Role: EBGP, ASN: 65001, Options: session.Options{LocalAddress: n[1].addr, AllowOwnAS: uint8(seed % 2)},
				Import: policy.Import{Accept: accept, LocalPref: uint32(seed * 80), Filters: d.filters(importing, EBGP)},
			}}})
			run(t, d, routes, []hop{{n[0], n[1]}}, total)
		})
		t.Run(fmt.Sprintf("reflected seed %d", seed), func(t *testing.T) {
			n := startNodes(t, dual(t, "127.31.0.1", "2001:db8::101"), dual(t, "127.31.0.2", "2001:db8::102"), dual(t, "127.31.0.3", "2001:db8::103"))
			client := func(at string, local string) Peer {
				p := from(to(at, Client), local)
				p.Import.Filters, p.Export.Filters = d.filters(importing, Client), d.filters(exporting, Client)
				return p
			}
			n[1].setPeers([]Peer{client("127.31.0.1", "127.31.0.2"), client("127.31.0.3", "127.31.0.2")})
			for _, i := range []int{0, 2} {
				p := from(to("127.31.0.2", IBGP), n[i].addr.String())
				p.Import.Filters, p.Export.Filters = d.filters(importing, IBGP), d.filters(exporting, IBGP)
				p.Import.Accept = []policy.PrefixRule{{Prefix: prefix("172.16.0.0/17"), Ge: 25}}
				n[i].setPeers([]Peer{p})
			}
			run(t, d, routes, []hop{{n[0], n[1]}, {n[1], n[2]}}, total)
		})
	}
	t.Logf("who decided: %v", total)
	if total["arrived"] < 100 {
		t.Errorf("only %d routes arrived: the test shows little", total["arrived"])
	}
	for _, rule := range []string{"export: NO_ADVERTISE (RFC 1997)", "import: pools", "export: own prefixes", "export: reflected routes", "import: import.accept"} {
		if total[rule] == 0 {
			t.Errorf("no route was decided by %q", rule)
		}
	}
	byFilter := 0
	for rule, n := range total {
		if strings.Contains(rule, "filter random") {
			byFilter += n
		}
	}
	if byFilter < 300 {
		t.Errorf("only %d decisions by a filter", byFilter)
	}
}

// run is one random history.
func run(t *testing.T, d dice, routes int, hops []hop, total map[string]int) {
	t.Helper()
	for _, h := range hops {
		h.from.waitUp(h.to.addr)
		h.to.waitUp(h.from.addr)
	}
	list := make([]policy.Route, routes)
	for i := range list {
		list[i] = d.route(i)
		hops[0].from.announce(list[i])
	}
	for rule, n := range maps.All(agree(t, list, hops)) {
		total[rule] += n
	}
}
