package forecast

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"onlink/agent/config"
	"onlink/bgp"
	"onlink/rib"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ip(s string) netip.Addr    { return netip.MustParseAddr(s) }

// scripted is an agent whose speaker says what the test says.
type scripted struct {
	refuse   error
	sessions []bgp.SessionForecast
	routes   []bgp.RouteForecast
	paths    []rib.Update
	inputs   rib.Inputs
	decide   func(*rib.Inputs)
	asked    map[netip.Addr]int // how often a next hop was looked up
}

func (s *scripted) Desire(*config.Effective) (bgp.Desire, error) { return bgp.Desire{}, s.refuse }

func (s *scripted) Speak(_ context.Context, _ bgp.Desire, sink bgp.ForecastSink) ([]bgp.SessionForecast, error) {
	for _, r := range s.routes {
		sink.Route(r)
	}
	for _, u := range s.paths {
		sink.Paths(u)
	}
	return s.sessions, nil
}

func (s *scripted) Inputs(context.Context) (rib.Inputs, rib.Resolver, error) { return s.inputs, s, nil }

func (s *scripted) Decide(in *rib.Inputs, _ *config.Effective) {
	if s.decide != nil {
		s.decide(in)
	}
}

// Reach puts every next hop on eth0.
func (s *scripted) Reach(hop netip.Addr) rib.Reach {
	if s.asked == nil {
		s.asked = map[netip.Addr]int{}
	}
	s.asked[hop]++
	return rib.Reach{Kind: rib.OnLink, Hops: rib.MakeHops(rib.Hop{Dev: "eth0"})}
}

// TestOf: lists are bounded and counts are whole, the kernel's routes are those of the
// changed paths and inputs, and a next hop is looked up once.
func TestOf(t *testing.T) {
	t.Parallel()
	tor, rr := ip("10.57.0.1"), ip("10.57.0.10")
	path := func(hop string) []rib.Path { return []rib.Path{{NextHop: ip(hop), Peer: rr}} }
	a := &scripted{
		sessions: []bgp.SessionForecast{{Name: "rr", Address: rr, Up: true, Fate: bgp.FateKept, Advertised: 2}, {Name: "tor", Address: tor, Up: true, Fate: bgp.FateChanged, Advertised: 3}},
		routes: []bgp.RouteForecast{
			{Peer: tor, Effect: bgp.Announces, Prefix: pfx("10.244.0.0/16"), Rule: "own prefixes"},
			{Peer: tor, Effect: bgp.Withdraws, Prefix: pfx("10.244.1.0/26"), Rule: "inside an aggregate"},
			{Peer: tor, Effect: bgp.Withdraws, Prefix: pfx("10.244.2.0/26"), Rule: "inside an aggregate"},
			{Peer: tor, Effect: bgp.Withdraws, Prefix: pfx("192.0.2.0/24"), Rule: "filter"},
		},
		paths: []rib.Update{{Prefix: pfx("10.1.0.0/16")}, {Prefix: pfx("10.2.0.0/16"), Paths: path("10.57.0.12")}, {Prefix: pfx("10.3.0.0/16"), Paths: path("10.57.0.13")}},
		inputs: rib.Inputs{
			Paths: []rib.Update{{Prefix: pfx("10.1.0.0/16"), Paths: path("10.57.0.11")}, {Prefix: pfx("10.2.0.0/16"), Paths: path("10.57.0.11")}, {Prefix: pfx("10.4.0.0/16"), Paths: path("10.57.0.11")}},
			Own:   []netip.Prefix{pfx("10.244.1.0/26")},
		},
		decide: func(in *rib.Inputs) { in.Own = nil },
	}
	r, err := Of(t.Context(), a, nil, 2)
	if err != nil {
		t.Fatal(err)
	}
	if lost, of := r.Withdrawn(); lost != 1 || of != 5 || !r.Touches() {
		t.Errorf("%d of %d announcements are lost, want 1 of 5: the aggregate covers the others", lost, of)
	}
	if l := r.Sessions[1].Effects[bgp.Withdraws]; l.Count != 3 || len(l.First) != 2 || l.First[0].Text != "inside an aggregate" {
		t.Errorf("withdrawn: %+v", l)
	}
	want := Result{
		Installs: List{1, []Item{{pfx("10.3.0.0/16"), "via 10.57.0.13 dev eth0"}}},
		Removes:  List{2, []Item{{pfx("10.1.0.0/16"), "via 10.57.0.11 dev eth0"}, {pfx("10.244.1.0/26"), "blackhole"}}},
		Replaces: List{1, []Item{{pfx("10.2.0.0/16"), "via 10.57.0.12 dev eth0 instead of via 10.57.0.11 dev eth0"}}},
	}
	r.Sessions = nil
	if d := cmp.Diff(want, *r, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for hop, times := range a.asked {
		if times != 1 {
			t.Errorf("%s was looked up %d times", hop, times)
		}
	}
}

// TestNothing: a configuration that changes nothing, and one that the agent rejects.
func TestNothing(t *testing.T) {
	t.Parallel()
	a := &scripted{sessions: []bgp.SessionForecast{{Name: "rr", Up: true, Fate: bgp.FateKept, Advertised: 2}}}
	r, err := Of(t.Context(), a, nil, 2)
	if err != nil || r.Touches() {
		t.Errorf("%+v, %v", r, err)
	}
	for _, other := range []*Result{{Restart: "bgp.asn"}, {Unknown: "why"}, {Removes: List{Count: 1}}, {Sessions: []Session{{SessionForecast: bgp.SessionForecast{Fate: bgp.FateRemoved}}}}} {
		if !other.Touches() {
			t.Errorf("%+v touches nothing", other)
		}
	}
	a.refuse = errors.New("no such file")
	if _, err := Of(t.Context(), a, nil, 2); !errors.Is(err, a.refuse) {
		t.Errorf("error %v", err)
	}
}
