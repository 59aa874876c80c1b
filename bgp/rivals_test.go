package bgp

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"onlink/bgp/gobgp"
	"onlink/bgp/policy"
	"onlink/bgp/session"
)

// TestRivals: an owner finds another node's announcements of its block and a part
// of it, through a reflector, until they are withdrawn. A prefix that both
// originate beside it, a wider prefix, and the owner's own routes that the
// reflector sends back are no rivals.
func TestRivals(t *testing.T) {
	needsPatches(t)
	rr, thief, owner := testConfig(t, "127.38.0.1"), testConfig(t, "127.38.0.2"), testConfig(t, "127.38.0.3")
	rr.ClusterID = addr("127.38.0.1")
	rr.Pools = nil // as a reflector of other make, it keeps no block to one node
	thief.NodeAddress6, owner.NodeAddress6 = addr("fd00:38::2"), addr("fd00:38::3")
	nodes := startNodes(t, rr, thief, owner)
	clients, reflector := clientsOf("127.38.0.0/24"), to("127.38.0.1", IBGP)
	clients.Families, reflector.Families = []Family{IPv4, IPv6}, []Family{IPv4, IPv6}
	nodes[0].setPeers(nil, anything(clients))
	for _, n := range nodes[1:] {
		n.setPeers([]Peer{from(reflector, n.addr.String())})
		n.waitUp(addr("127.38.0.1"))
	}
	nodes[2].originate("10.244.1.0/26", "fd00:244:0:1::/64")
	nodes[1].originate("10.244.1.0/26", "10.244.1.16/28", "10.244.0.0/20", "10.244.2.0/26", "fd00:244:0:1::5/128")
	wantRivals(t, nodes[2],
		"10.244.1.0/26 in 10.244.1.0/26: 127.38.0.1 says 127.38.0.2 of 127.38.0.2",
		"10.244.1.16/28 in 10.244.1.0/26: 127.38.0.1 says 127.38.0.2 of 127.38.0.2",
		"fd00:244:0:1::5/128 in fd00:244:0:1::/64: 127.38.0.1 says fd00:38::2 of 127.38.0.2")
	nodes[1].originate("10.244.0.0/20")
	wantRivals(t, nodes[2])
	wantRivals(t, nodes[1])
}

// wantRivals waits until a node has exactly these.
func wantRivals(t *testing.T, n *node, want ...string) {
	t.Helper()
	eventually(t, func() string {
		var got []string
		for _, r := range n.Rivals() {
			got = append(got, fmt.Sprintf("%s in %s: %s says %s of %s", r.Prefix, r.Origin, r.Peer, r.NextHop, r.OriginatorID))
		}
		if !slices.Equal(got, want) {
			return fmt.Sprintf("%s: rivals %q, want %q", n.addr, got, want)
		}
		return ""
	})
}

// TestEchoes: which paths for an own prefix may be our own announcement on
// its way back.
func TestEchoes(t *testing.T) {
	c := testConfig(t, "127.38.0.4")
	c.NodeAddress6 = addr("fd00:38::4")
	s, err := New(c)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	tor := Peer{Name: "tor", Address: addr("127.38.0.9"), Session: Session{Role: EBGP, ASN: 65001, Options: session.Options{LocalAS: 65100}}}
	if err := s.SetPeers(t.Context(), []Peer{tor, to("127.38.0.1", IBGP)}, nil); err != nil {
		t.Fatalf("SetPeers: %v", err)
	}
	for _, tt := range []struct {
		name       string
		hop        string
		originator string
		path       []uint32
		set        bool
		want       bool
	}{
		{name: "another node", hop: "127.38.0.5"},
		{name: "another node behind a reflector", hop: "127.38.0.5", originator: "127.38.0.5"},
		{name: "our next hop", hop: "127.38.0.4", want: true},
		{name: "our next hop in IPv6", hop: "fd00:38::4", want: true},
		{name: "our router ID", hop: "127.38.0.5", originator: "127.38.0.4", want: true},
		{name: "back from the ToR", hop: "127.38.0.9", path: []uint32{65001, 64512}, want: true},
		{name: "back as our local AS", hop: "127.38.0.9", path: []uint32{65001, 65100}, want: true},
		{name: "back with our AS replaced", hop: "127.38.0.9", path: []uint32{65001, 65200, 65001}, want: true},
		{name: "another AS", hop: "127.38.0.9", path: []uint32{65001, 65200, 65300}},
		{name: "our AS in between", hop: "127.38.0.9", path: []uint32{65001, 64512, 65300}},
		{name: "a set", hop: "127.38.0.9", path: []uint32{65300, 65301}, set: true, want: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			attrs := []bgp.PathAttributeInterface{bgp.NewPathAttributeNextHop(tt.hop)}
			if strings.Contains(tt.hop, ":") {
				attrs[0] = bgp.NewPathAttributeMpReachNLRI(tt.hop, nil)
			}
			if tt.originator != "" {
				attrs = append(attrs, bgp.NewPathAttributeOriginatorId(tt.originator))
			}
			if tt.path != nil {
				kind := uint8(bgp.BGP_ASPATH_ATTR_TYPE_SEQ)
				if tt.set {
					kind = bgp.BGP_ASPATH_ATTR_TYPE_SET
				}
				attrs = append(attrs, bgp.NewPathAttributeAsPath([]bgp.AsPathParamInterface{bgp.NewAs4PathParam(kind, tt.path)}))
			}
			r := rivalOf(addr("127.38.0.9"), prefix("10.244.1.0/26"), attrs)
			if r.NextHop != addr(tt.hop) {
				t.Fatalf("next hop %s, want %s", r.NextHop, tt.hop)
			}
			e := echoesOf(&s.cfg, s.sessions.want)
			if got := e.has(&r, attrs); got != tt.want {
				t.Errorf("echo %t, want %t", got, tt.want)
			}
		})
	}
}

// TestHolding finds the own prefix that another lies in.
func TestHolding(t *testing.T) {
	s, err := New(testConfig(t, "127.38.0.4"))
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	var list []Origin
	for _, p := range []string{"10.244.1.0/26", "10.244.1.64/26", "10.244.9.0/24"} {
		list = append(list, Origin{Prefix: prefix(p)})
	}
	if err := s.SetOrigins(t.Context(), list); err != nil {
		t.Fatalf("SetOrigins: %v", err)
	}
	own := ownPrefixesOf(s.origins)
	for in, want := range map[string]string{
		"10.244.1.0/26": "10.244.1.0/26", "10.244.1.63/32": "10.244.1.0/26", "10.244.1.64/27": "10.244.1.64/26",
		"10.244.9.7/32": "10.244.9.0/24", "10.244.1.0/25": "", "10.244.2.0/26": "", "fd00:244::/64": "",
	} {
		wanted := netip.Prefix{}
		if want != "" {
			wanted = prefix(want)
		}
		if got := own.holding(prefix(in)); got != wanted {
			t.Errorf("%s lies in %s, want %q", in, got, want)
		}
	}
}

// TestRivalPause: the more routes, the longer the pause, up to a limit.
func TestRivalPause(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{0: rivalCheck, 5 * time.Millisecond: rivalCheck, 12 * time.Millisecond: 12 * time.Second, time.Hour: rivalSlowest} {
		if got := rivalPause(took); got != want {
			t.Errorf("after %s: %s, want %s", took, got, want)
		}
	}
}

// TestLookoutRests: what was found twice in the same view is not looked for again.
func TestLookoutRests(t *testing.T) {
	l := lookout{log: slog.New(slog.DiscardHandler)}
	one, other := view{guard: &policy.Guard{}}, view{guard: &policy.Guard{}}
	for _, step := range []struct {
		view  view
		knows bool // before the look
	}{{one, false}, {one, false}, {one, true}, {other, false}, {other, false}, {other, true}, {one, false}, {other, false}} {
		if got := l.knows(step.view); got != step.knows {
			t.Errorf("%+v: knows %t, want %t", step, got, step.knows)
		}
		l.take(look{view: step.view})
	}
}

// TestReceived: the identity of what peers announce changes with a path that
// comes, another one in its place, one that goes, and a session that ends; and
// with nothing else.
func TestReceived(t *testing.T) {
	needsPatches(t)
	nodes := startNodes(t, testConfig(t, "127.38.1.1"), testConfig(t, "127.38.1.2"))
	nodes[0].setPeers([]Peer{from(to("127.38.1.2", IBGP), "127.38.1.1")})
	nodes[1].setPeers([]Peer{from(to("127.38.1.1", IBGP), "127.38.1.2")})
	nodes[0].waitUp(addr("127.38.1.2"))
	paths := func(want int) {
		t.Helper()
		eventually(t, func() string {
			n := 0
			if err := nodes[0].engine.EachReceived(func(netip.Prefix) bool { return true }, func(netip.Addr, netip.Prefix, gobgp.Attributes) { n++ }); err != nil {
				t.Fatal(err)
			}
			if n != want {
				return fmt.Sprintf("%d paths, want %d", n, want)
			}
			return ""
		})
	}
	last := gobgp.Received{}
	step := func(what string, changes bool) {
		t.Helper()
		now, err := nodes[0].engine.Received()
		if err != nil || (now != last) != changes {
			t.Errorf("%s: %+v, before %+v: %v", what, now, last, err)
		}
		last = now
	}
	nodes[1].originate("10.244.1.0/26", "10.244.2.0/26")
	paths(2)
	step("two paths", true)
	step("nothing", false)
	nodes[1].originate("10.244.1.0/26", "10.244.3.0/26")
	paths(2)
	eventually(t, func() string {
		if now, err := nodes[0].engine.Received(); err != nil || now == last {
			return fmt.Sprintf("one path came and one went: %+v, %v", now, err)
		}
		return ""
	})
	paths(2)
	nodes[1].originate("10.244.1.0/26")
	paths(1)
	step("a path went", true)
	nodes[0].setPeers(nil)
	paths(0)
	step("the session ended", true)
}
