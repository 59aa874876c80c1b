package bgp

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"onlink/bgp/policy"
)

// held replays the messages of a recorder: the prefixes that it has now, and the
// message after which it had no route to an address that it had one to before.
func (r *recorder) held(watched netip.Addr) (list []string, lost string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	has, covered := map[netip.Prefix]bool{}, false
	for _, line := range r.news {
		p, _, _ := strings.Cut(line[1:], " ")
		if has[prefix(p)] = true; line[0] == '-' {
			delete(has, prefix(p))
		}
		before := covered
		covered = false
		for q := range has {
			covered = covered || q.Contains(watched)
		}
		if before && !covered {
			lost = line
		}
	}
	for p := range has {
		list = append(list, p.String())
	}
	slices.Sort(list)
	return list, lost
}

// aggregation is a speaker with two peers of another AS, and what it should announce.
type aggregation struct {
	*node
	tors    []*recorder
	exports []map[string]bool // of each: its aggregates, and whether they are summaryOnly
	own     map[string]Origin
}

// apply hands the speaker its peers, or its own prefixes.
func (a *aggregation) apply(peers bool) {
	a.t.Helper()
	if !peers {
		if err := a.SetOrigins(a.t.Context(), slices.Collect(maps.Values(a.own))); err != nil {
			a.t.Fatal(err)
		}
		return
	}
	var list []Peer
	for i, aggregates := range a.exports {
		p := to(fmt.Sprintf("127.110.0.%d", 7+i), EBGP)
		p.Name, p.Passive, p.ASN, p.Export.Own = fmt.Sprintf("tor%d", i), true, 65001, true
		for _, one := range slices.Sorted(maps.Keys(aggregates)) {
			p.Export.Aggregates = append(p.Export.Aggregates, policy.Aggregate{Prefix: prefix(one), SummaryOnly: aggregates[one]})
		}
		list = append(list, p)
	}
	a.setPeers(list)
}

// announced returns the prefixes that a peer should have.
func (a *aggregation) announced(to int) (out []string) {
	for p, o := range a.own {
		_, has := a.exports[to][p]
		hidden := o.Aggregate && !has
		for around, summary := range a.exports[to] {
			wide := prefix(around)
			inside := wide.Bits() < o.Prefix.Bits() && wide.Contains(o.Prefix.Addr())
			hidden = hidden || inside && summary && a.own[around].Aggregate && !o.Service
		}
		if !hidden {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// check waits until both peers have what they should have.
func (a *aggregation) check(step string) {
	a.t.Helper()
	for i, tor := range a.tors {
		want := a.announced(i)
		eventually(a.t, func() string {
			got, lost := tor.held(addr("10.244.1.1"))
			if lost != "" {
				a.t.Fatalf("%s: tor%d had no route to a block after %s", step, i, lost)
			}
			if !slices.Equal(got, want) {
				return fmt.Sprintf("%s: tor%d has %q, want %q", step, i, got, want)
			}
			return ""
		})
	}
}

// originate adds own prefixes, or removes those with a minus before them.
func (a *aggregation) originate(list ...string) {
	for _, p := range list {
		if gone, removed := strings.CutPrefix(p, "-"); removed {
			delete(a.own, gone)
			continue
		}
		a.own[p] = Origin{Prefix: prefix(p), Aggregate: prefix(p).Bits() < 20, Service: prefix(p).IsSingleIP()}
	}
}

// TestAggregateComesAndGoes: whatever the order in which peers and own prefixes change,
// each peer has its aggregates and nothing that they hide, no session is reset, and a
// peer has a route to a block all the time: that of the block or that of an aggregate.
func TestAggregateComesAndGoes(t *testing.T) {
	needsPatches(t)
	const wide, half = "10.244.0.0/16", "10.244.0.0/17"
	a := &aggregation{
		node: startNodes(t, testConfig(t, "127.110.0.1"))[0],
		own:  map[string]Origin{}, exports: []map[string]bool{{}, {}},
	}
	a.originate("10.244.1.0/26", "192.0.2.0/24") // the second has the attributes of the first
	a.apply(false)
	a.apply(true)
	for i := range a.exports {
		local := fmt.Sprintf("127.110.0.%d", 7+i)
		a.tors = append(a.tors, recording(openAs(t, local, "127.110.0.1", 65001, 180, 1, 4, 0, 1, 0, 1, 65, 4, 0, 0, 0xfd, 0xe9)))
	}
	a.check("at first")
	for _, c := range []struct {
		name    string
		exports map[string]bool // of the first peer; nil: the own prefixes change
		own     []string
	}{
		{name: "the aggregate is configured", exports: map[string]bool{wide: true}},
		{name: "it is announced", own: []string{wide}},
		{name: "a block is claimed", own: []string{"10.244.2.0/26"}},
		{name: "a service begins", own: []string{"10.244.9.9/32"}},
		{name: "a block is released", own: []string{"-10.244.2.0/26"}},
		{name: "no longer summaryOnly", exports: map[string]bool{wide: false}},
		{name: "summaryOnly again", exports: map[string]bool{wide: true}},
		{name: "a narrower one beside it", exports: map[string]bool{wide: false, half: true}},
		{name: "which is announced, with a block", own: []string{half, "10.244.3.0/26"}},
		{name: "it takes the place of the other", own: []string{"-" + wide}},
		{name: "and the other its place", exports: map[string]bool{wide: true}, own: nil},
		{name: "the aggregate ends", own: []string{wide, "-" + half}},
		{name: "it is configured no more", exports: map[string]bool{}},
		{name: "it is withdrawn", own: []string{"-" + wide, "-10.244.3.0/26"}},
		{name: "an aggregate for no peer", own: []string{wide}},
		{name: "it is for the first", exports: map[string]bool{wide: true}},
		{name: "it ends while it hides", own: []string{"-" + wide, "-10.244.9.9/32"}},
	} {
		if c.exports != nil {
			a.exports[0] = c.exports
		}
		a.originate(c.own...)
		a.apply(c.exports != nil)
		a.check(c.name)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	prefixes := []string{wide, half, "10.244.2.0/26", "10.244.200.0/26", "10.244.9.9/32"}
	for i := range 60 {
		peers := rnd.IntN(2) == 0
		if peers {
			for _, aggregates := range a.exports {
				one := prefixes[rnd.IntN(2)]
				if delete(aggregates, one); rnd.IntN(3) > 0 {
					aggregates[one] = rnd.IntN(2) == 0
				}
			}
		} else {
			for range 1 + rnd.IntN(2) {
				a.originate([]string{"", "-"}[rnd.IntN(2)] + prefixes[rnd.IntN(len(prefixes))])
			}
		}
		a.apply(peers)
		a.check(fmt.Sprintf("random step %d", i))
	}
	for _, p := range a.Peers() {
		if p.Flaps != 0 || p.State != established {
			t.Errorf("%s: %s after %d flaps", p.Name, p.State, p.Flaps)
		}
	}
}

// TestOwnPrefixAroundRoutes: a new own prefix takes the routes of peers inside it at
// once, from the node and from those that it reflects to, and gives them back when it
// ends; the routes beside it stay.
func TestOwnPrefixAroundRoutes(t *testing.T) {
	needsPatches(t)
	n := startNodes(t, withBlocks(testConfig(t, "127.110.1.1")), testConfig(t, "127.110.1.2"), testConfig(t, "127.110.1.3"))
	x, other, client := n[0], n[1], n[2]
	other.originate("10.244.0.0/16", "10.244.2.0/26", "10.244.2.64/26", "10.244.3.0/26")
	x.setPeers(nil, clientsOf("127.110.1.0/24"))
	for _, c := range n[1:] {
		c.setPeers([]Peer{from(to("127.110.1.1", IBGP), c.addr.String())})
		x.waitUp(c.addr)
	}
	routes := func(own []Origin, announced []string, theirs ...string) {
		t.Helper()
		if err := x.SetOrigins(t.Context(), own); err != nil {
			t.Fatal(err)
		}
		var at, behind []string
		for _, p := range theirs {
			at = append(at, p+" via 127.110.1.2")
		}
		for _, p := range announced {
			behind = append(behind, p+" via 127.110.1.1")
		}
		x.waitRoutes(at...)
		client.waitRoutes(append(behind, at...)...)
	}
	all := []string{"10.244.0.0/16", "10.244.2.0/26", "10.244.2.64/26", "10.244.3.0/26"}
	routes(nil, nil, all...)
	around := Origin{Prefix: prefix("10.244.2.0/25")}
	routes([]Origin{around}, []string{"10.244.2.0/25"}, "10.244.0.0/16", "10.244.3.0/26")
	routes(nil, nil, all...)

	// Of an aggregate the same prefix alone; other nodes have blocks inside.
	pool := Origin{Prefix: prefix("10.244.0.0/16"), Aggregate: true}
	routes([]Origin{pool}, nil, all[1:]...)
	pool.Aggregate = false
	routes([]Origin{pool}, []string{"10.244.0.0/16"})
	pool.Aggregate = true
	routes([]Origin{pool, around}, []string{"10.244.2.0/25"}, "10.244.3.0/26")
	routes(nil, nil, all...)

	if err := x.SetPools(t.Context(), []policy.Pool{{Prefix: prefix("10.244.2.0/24"), Block: 26}}); err != nil {
		t.Fatal(err)
	}
	x.waitRoutes("10.244.2.0/26 via 127.110.1.2", "10.244.2.64/26 via 127.110.1.2")
	for _, p := range x.Peers() {
		if p.Flaps != 0 || p.State != established {
			t.Errorf("%s: %s after %d flaps", p.Name, p.State, p.Flaps)
		}
	}
}
