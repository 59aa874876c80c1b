package glass

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"onlink/agent/state"
	"onlink/bgp"
	"onlink/ipam"
	"onlink/rib"
)

// onLink and gateway are how the underlay reaches an address.
func onLink() rib.Reach              { return rib.Reach{Kind: rib.OnLink, Match: pfx("10.57.1.0/24")} }
func gateway(match string) rib.Reach { return rib.Reach{Kind: rib.Gateway, Match: pfx(match)} }

func addrs(list ...string) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, ip(a))
	}
	return out
}

// use is a node with one route, which the reflector brings.
func use(addr string, reach rib.Reach, change func(*rib.Use)) rib.Use {
	u := rib.Use{Addr: ip(addr), Reach: reach, Node: true, Routes: 1, Direct: 1, Peers: addrs("10.57.1.10"), Prefixes: []netip.Prefix{block(int(ip(addr).As4()[3]))}}
	if change != nil {
		change(&u)
	}
	return u
}

func tunnelled(u *rib.Use) {
	u.Direct, u.Tunnelled, u.Devices = 0, 1, []string{"onlink-vxlan"}
}

// drawn returns the topology of a snapshot.
func (b *bed) drawn(s *state.Snapshot, uses []rib.Use, rack string) *topologyView {
	b.put(s)
	g := &glass{Config: Config{Known: b.known}}
	return g.topology(s, uses, rack)
}

// TestTopology: the network of a node with a ToR and a reflector, with each way to
// another node.
func TestTopology(t *testing.T) {
	b := &bed{nodes: []ipam.Node{{Name: "r1n2", Addresses: addrs("10.57.1.12")}, {Name: "r2n1", Addresses: addrs("10.57.2.11")}}}
	uses := []rib.Use{
		{Addr: ip("10.57.1.1"), Reach: onLink(), Peers: addrs("10.57.1.1"), Routes: 1, Direct: 1},
		{Addr: ip("10.57.1.10"), Reach: onLink()},
		use("10.57.1.12", onLink(), nil),
		use("10.57.1.13", onLink(), func(u *rib.Use) { u.Direct, u.Failing = 0, 1 }),
		use("10.57.2.11", gateway("0.0.0.0/0"), tunnelled),
		use("10.57.2.12", gateway("0.0.0.0/0"), nil),
		use("10.57.2.13", gateway("0.0.0.0/0"), func(u *rib.Use) { u.Routes, u.Tunnelled = 2, 1 }),
		use("10.58.0.9", gateway("10.58.0.0/20"), func(u *rib.Use) { u.Direct, u.Unresolved = 0, 1 }),
	}
	got := b.drawn(snapshot(), uses, "")
	node := func(addr, name, way string, change func(*nodeView)) nodeView {
		n := nodeView{Address: addr, Name: name, Way: way, Routes: 1, Blocks: []string{block(int(ip(addr).As4()[3])).String()}}
		if change != nil {
			change(&n)
		}
		return n
	}
	want := &topologyView{
		Self: selfView{Name: "r1n1", Address: "10.57.1.11", Rack: "10.57.1.0/24"}, Nodes: 6,
		Routers: []routerView{
			{Name: "r1tor1", Address: "10.57.1.1", ASN: 65101, Kind: "tor", State: "Established", Up: true, Rack: "10.57.1.0/24"},
			{Name: "rr1", Address: "10.57.1.10", ASN: 64512, Kind: "reflector", State: "Established", Up: true, Rack: "10.57.1.0/24"},
		},
		Racks: []rackView{
			{ID: "10.57.1.0/24", Here: true, Nodes: 2, Ways: map[string]int{"direct": 1, "failed": 1}, Members: []nodeView{
				node("10.57.1.12", "r1n2", "direct", nil), node("10.57.1.13", "", "failed", nil),
			}},
			{ID: "10.57.2.0/24", Assumed: true, Nodes: 3, Ways: map[string]int{"tunnel": 1, "routed": 1, "mixed": 1}, Members: []nodeView{
				node("10.57.2.11", "r2n1", "tunnel", func(n *nodeView) { n.Devices = []string{"onlink-vxlan"} }), node("10.57.2.12", "", "routed", nil),
				node("10.57.2.13", "", "mixed", func(n *nodeView) { n.Routes = 2 }),
			}},
			{ID: "10.58.0.0/20", Nodes: 1, Ways: map[string]int{"none": 1}, Members: []nodeView{node("10.58.0.9", "", "none", nil)}},
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// Without its session to the reflector the node keeps stale routes.
	s := snapshot()
	s.Sessions.Peers[1].State = "Active"
	got = b.drawn(s, uses, "")
	stale := 0
	for _, r := range got.Racks {
		stale += r.Stale
	}
	if stale != 6 || !got.Racks[0].Members[0].Stale || got.Routers[1].Up {
		t.Errorf("%d nodes are stale, the routers are %+v", stale, got.Routers)
	}
}

// TestTopologyOfReflector: the clients of a reflector are nodes, also without routes and
// when their session is down; in a mesh the other nodes are.
func TestTopologyOfReflector(t *testing.T) {
	s := snapshot()
	s.Node.Reflector = true
	s.Sessions.Peers = nil
	for i, c := range []bgp.PeerStatus{
		{State: state.Established, Seen: true}, {State: state.Established, Seen: true}, {State: "Idle", Gone: true, Seen: true}, {State: "Idle", Gone: true}, {State: "Idle", Gone: true, Stranger: true},
	} {
		c.Name, c.Role, c.Dynamic, c.Address = "clients", bgp.Client, true, ip(fmt.Sprintf("10.57.1.%d", 12+i))
		s.Sessions.Peers = append(s.Sessions.Peers, peer(c))
	}
	s.Sessions.Peers = append(s.Sessions.Peers,
		peer(bgp.PeerStatus{Name: "n31", Address: ip("10.57.1.31"), State: state.Established}), peer(bgp.PeerStatus{Name: "n32", Address: ip("10.57.1.32"), State: "Active"}))
	own := func(u *rib.Use) { u.Peers = []netip.Addr{u.Addr} }
	uses := []rib.Use{use("10.57.1.12", onLink(), own), use("10.57.1.31", onLink(), own)}
	got := (&bed{}).drawn(s, uses, "")
	var nodes []string
	for _, n := range got.Racks[0].Members {
		nodes = append(nodes, fmt.Sprintf("%s %q %s %s down %v", n.Address, n.Name, n.Way, n.Session, n.Down))
	}
	if diff := cmp.Diff([]string{
		`10.57.1.12 "" direct Established down false`, `10.57.1.13 "" idle Established down false`, `10.57.1.14 "" idle Idle down true`, `10.57.1.31 "n31" direct Established down false`,
	}, nodes); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if len(got.Routers) != 1 || got.Routers[0].Name != "n32" || got.Routers[0].Kind != "peer" || got.Racks[0].Down != 1 {
		t.Errorf("%+v, %d nodes down", got.Routers, got.Racks[0].Down)
	}
}

// TestLargeTopology: of 2,000 nodes the racks are drawn, and the nodes of one on
// request; what is left out is counted.
func TestLargeTopology(t *testing.T) {
	var uses []rib.Use
	for rack := range 200 {
		for n := range 10 {
			uses = append(uses, use(fmt.Sprintf("10.60.%d.%d", rack, 11+n), gateway("0.0.0.0/0"), tunnelled))
		}
	}
	for n := range 500 {
		uses = append(uses, use(fmt.Sprintf("10.61.%d.%d", n/250, n%250), gateway("10.61.0.0/16"), nil))
	}
	b := &bed{}
	for _, c := range []struct {
		rack    string
		members int
	}{{"", 0}, {"10.60.7.0/24", 10}, {"10.60.199.0/24", 10}, {"10.61.0.0/16", maxMembers}, {"no rack", 0}} {
		v := b.drawn(snapshot(), uses, c.rack)
		members, more, nodes := 0, 0, 0
		for _, r := range v.Racks {
			members, more, nodes = members+len(r.Members), more+r.More, nodes+r.Nodes
		}
		if members != c.members || more+members != nodes || v.Nodes != 2500 || len(v.Racks) != maxRacks || len(v.Racks)+v.MoreRacks != 202 {
			t.Errorf("%q: %d members and %d more of %d nodes, %d in all, %d racks and %d more", c.rack, members, more, nodes, v.Nodes, len(v.Racks), v.MoreRacks)
		}
		text, err := json.Marshal(v)
		if err != nil || len(text) > 120<<10 {
			t.Errorf("%q: %d bytes, %v", c.rack, len(text), err)
		}
		if !v.Racks[0].Here {
			t.Errorf("%q: the first rack is %s", c.rack, v.Racks[0].ID)
		}
	}
}

// TestLandscape: pages share one reading of the routes, a costly one is rarer, and one
// that failed is repeated.
func TestLandscape(t *testing.T) {
	read := 0
	var err error
	var took time.Duration
	l := &landscape{read: func(context.Context, int) ([]rib.Use, error) {
		read++
		time.Sleep(took)
		return nil, err
	}}
	at := time.Now()
	for _, c := range []struct {
		name  string
		after time.Duration
		want  int
	}{
		{"the first", 0, 1},
		{"soon after", readEvery / 2, 1},
		{"later", readEvery, 2},
	} {
		if _, got := l.uses(t.Context(), at.Add(c.after)); got != nil || read != c.want {
			t.Errorf("%s: %v, read %d times, want %d", c.name, got, read, c.want)
		}
	}
	took = 30 * time.Millisecond
	at = at.Add(time.Minute)
	for range 2 { // the second is within 50 times of what the first took
		if _, got := l.uses(t.Context(), at); got != nil || read != 3 {
			t.Errorf("a costly reading: %v, read %d times", got, read)
		}
		at = at.Add(time.Second)
	}
	at, err = at.Add(time.Hour), errPart
	for want := range 2 {
		if _, got := l.uses(t.Context(), at); got == nil || read != 4+want {
			t.Errorf("a failed reading: %v, read %d times", got, read)
		}
	}
}
