package integration

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"onlink/integration/interop"
	"onlink/integration/lab"
)

// plan is the BGP part of one node's configuration.
type plan struct {
	asn       int
	reflector bool
	peers     []map[string]any
}

// wire writes the plans into the nodes' configurations; the lab's registry and
// pools stay.
func wire(l *lab.Lab, plans map[string]plan) {
	for _, n := range l.Nodes() {
		n.Edit = func(c lab.Config) {
			p := plans[n.Name]
			bgp := map[string]any{"asn": p.asn}
			if p.reflector {
				bgp["reflector"] = map[string]any{}
			}
			var peers []any
			for _, peer := range p.peers {
				peer["connectRetry"] = "2s"
				peers = append(peers, peer)
			}
			bgp["peers"] = peers
			c["bgp"] = bgp
		}
	}
}

// to is a session to another node of the lab's AS.
func to(n *lab.Node, more ...any) map[string]any {
	return with(map[string]any{"name": n.Name, "address": n.Addr.String(), "asn": lab.NodeASN}, more...)
}

// with adds keys and values, in pairs.
func with(m map[string]any, more ...any) map[string]any {
	for i := 0; i+1 < len(more); i += 2 {
		m[more[i].(string)] = more[i+1]
	}
	return m
}

// takes is an import that takes the pods of others over eBGP.
var takes = map[string]any{"accept": []any{"10.244.0.0/16"}}

// reachEverybody starts the nodes and wants every block on every node, and
// packets between pods of all workers.
func reachEverybody(ctx context.Context, t *testing.T, l *lab.Lab) {
	t.Helper()
	must(t, l.StartNodes(ctx))
	for _, n := range l.Workers() {
		_, err := n.AddPod(ctx, n.Name+"-pod")
		must(t, err)
	}
	must(t, l.WaitConverged(ctx))
	_, err := l.PingPods(ctx, 1)
	must(t, err)
}

// TestMesh: without reflectors every node peers with every other, by one list
// that is the same in every node's file. There is one session between two nodes,
// and it stays, also when the list or what its sessions share is changed.
func TestMesh(t *testing.T) {
	ctx, l := build(t, watched("mesh", 4))
	meshed := func(n *lab.Node, hold string) lab.Config {
		var nodes []any
		for _, other := range l.Nodes() {
			nodes = append(nodes, map[string]any{"name": other.Name, "address": other.Addr.String()})
		}
		c := n.Config()
		c["bgp"] = map[string]any{"asn": lab.NodeASN, "mesh": map[string]any{"nodes": nodes, "connectRetry": "2s", "holdTime": hold}}
		return c
	}
	for _, n := range l.Nodes() {
		n.Edit = func(c lab.Config) { maps.Copy(c, meshed(n, "90s")) }
	}
	reachEverybody(ctx, t, l)
	n := l.Node("r1n1")
	e := &editor{n: n}
	c := meshed(n, "30s")
	e.send(ctx, t, c, "configuration taken")
	mesh := c["bgp"].(map[string]any)["mesh"].(map[string]any)
	mesh["nodes"] = append(mesh["nodes"].([]any), "10.57.1.99") // not there yet
	e.send(ctx, t, c, "configuration taken")
	mesh["nodes"] = mesh["nodes"].([]any)[1:] // this node itself
	e.send(ctx, t, c, "configuration not taken")
	e.send(ctx, t, meshed(n, "90s"), "configuration taken")
	for _, n := range l.Nodes() {
		up := sessions(ctx, t, n)
		if len(up) != 3 {
			t.Errorf("%s has %d sessions, want 3", n.Name, len(up))
		}
		for name, s := range up {
			if s.flaps > 0 {
				t.Errorf("%s: the session to %s came up %d times more than once", n.Name, name, s.flaps)
			}
		}
	}
}

// TestHierarchy: two lower reflectors with a client each are themselves
// clients of an upper one (RFC 4456 section 7). A block of one client reaches
// the other with its own next hop, and leaves with it.
func TestHierarchy(t *testing.T) {
	ctx, l := build(t, watched("tiers", 5))
	top, low1, low2, leaf1, leaf2 := l.Node("r1n1"), l.Node("r1n2"), l.Node("r1n3"), l.Node("r1n4"), l.Node("r1n5")
	const as = lab.NodeASN
	up := func() map[string]any { return to(top, "export", map[string]any{"reflected": true}) }
	wire(l, map[string]plan{
		top.Name:   {asn: as, reflector: true, peers: []map[string]any{to(low1, "client", true), to(low2, "client", true)}},
		low1.Name:  {asn: as, reflector: true, peers: []map[string]any{up(), to(leaf1, "client", true)}},
		low2.Name:  {asn: as, reflector: true, peers: []map[string]any{up(), to(leaf2, "client", true)}},
		leaf1.Name: {asn: as, peers: []map[string]any{to(low1)}},
		leaf2.Name: {asn: as, peers: []map[string]any{to(low2)}},
	})
	reachEverybody(ctx, t, l)
	block := blockOf(ctx, t, leaf1)
	must(t, throughHops(leaf2, block, leaf1.Addr)) // past both reflectors
	out, err := leaf2.Ctl(ctx, "explain", block.Addr().String())
	must(t, err)
	if want := "reflected for " + leaf1.Addr.String(); !strings.Contains(out.Stdout, want) {
		t.Errorf("the path is not %q:\n%s", want, out.Stdout)
	}
	p := netip.MustParsePrefix("10.244.222.0/26")
	c := leaf1.Config()
	leaf1.Edit(c)
	bgp := c["bgp"].(map[string]any)
	for _, list := range [][]any{{p.String()}, {}} {
		bgp["originate"] = list
		(&editor{n: leaf1}).send(ctx, t, c, "configuration taken")
		must(t, lab.Eventually(ctx, patience, fmt.Sprintf("%v everywhere", list), func() error {
			if len(list) == 0 {
				return unknownTo(ctx, l.Nodes(), p)
			}
			return knownTo(ctx, l.Nodes(), []*lab.Node{leaf1}, p)
		}))
	}
}

// fabric is a lab of racks whose routers are BIRDs that pass on everything, as
// those of an eBGP fabric do.
func fabric(t *testing.T, name string, racks int) (context.Context, *lab.Lab) {
	t.Helper()
	return build(t, lab.Spec{Name: name, Racks: racks, NodesPerRack: 2, Reflectors: -1, Pool: lab.Pool{Tunnel: "none", Encap: "Never"}})
}

// toToR is a node's session to its router, and all it has.
func toToR(tor *lab.ToR, more ...any) []map[string]any {
	return []map[string]any{with(map[string]any{
		"name": tor.Name, "address": tor.Addr.String(), "asn": tor.ASN, "import": takes,
	}, more...)}
}

// TestASPerNode: every node has an AS of its own and peers with its ToR alone.
func TestASPerNode(t *testing.T) {
	ctx, l := fabric(t, "asnode", 2)
	plans, asn := map[string]plan{}, map[string]uint32{}
	for i, n := range l.Nodes() {
		plans[n.Name] = plan{asn: 64601 + i, peers: toToR(l.Racks[n.Rack-1].ToRs[0])}
		asn[n.Name] = uint32(64601 + i)
	}
	wire(l, plans)
	startFabric(ctx, t, l, asn)
	reachEverybody(ctx, t, l)
	far := blockOf(ctx, t, l.Node("r2n1"))
	must(t, throughHops(l.Node("r1n1"), far, l.ToRs()[0].Addr))
	wantPath(ctx, t, l.Node("r1n1"), far, fmt.Sprintf("AS path %d %d %d,", l.ToRs()[0].ASN, l.ToRs()[1].ASN, asn["r2n1"]))
}

// TestSameASPerRack: the nodes of every rack have the same AS, so what comes
// from another rack has our own AS in its path: allowOwnAS takes it.
func TestSameASPerRack(t *testing.T) {
	ctx, l := fabric(t, "asrack", 2)
	const as = 64700
	plans, asn := map[string]plan{}, map[string]uint32{}
	for _, n := range l.Nodes() {
		more := []any{"allowOwnAS", 1}
		if n.Name == "r2n2" {
			more = nil
		}
		plans[n.Name] = plan{asn: as, peers: toToR(l.Racks[n.Rack-1].ToRs[0], more...)}
		asn[n.Name] = as
	}
	wire(l, plans)
	startFabric(ctx, t, l, asn)
	must(t, l.StartNodes(ctx))
	strict := l.Node("r2n2")
	must(t, waitBlocks(ctx, l))
	for _, n := range l.Nodes() {
		for _, other := range l.Nodes() {
			if n == other || n == strict {
				continue
			}
			block := blockOf(ctx, t, other)
			must(t, lab.Eventually(ctx, patience, fmt.Sprintf("%s learns the block of %s", n.Name, other.Name), func() error {
				return hasRoute(n, block, routeProtocol)
			}))
		}
	}
	far := blockOf(ctx, t, l.Node("r2n1"))
	wantPath(ctx, t, l.Node("r1n1"), far, fmt.Sprintf("AS path %d %d %d,", l.ToRs()[0].ASN, l.ToRs()[1].ASN, as))
	// Without allowOwnAS nothing of the others is taken (RFC 4271 section 9.1.2).
	for _, other := range l.Nodes() {
		if other != strict {
			must(t, throughHops(strict, blockOf(ctx, t, other)))
		}
	}
}

// TestASPerRack: every rack has an AS of its own: iBGP between its nodes, eBGP
// to its ToR, and through the ToRs to the other racks.
func TestASPerRack(t *testing.T) {
	ctx, l := fabric(t, "asdiff", 2)
	plans, asn := map[string]plan{}, map[string]uint32{}
	as := func(n *lab.Node) int { return 64700 + n.Rack }
	for _, n := range l.Nodes() {
		p := plan{asn: as(n), peers: toToR(l.Racks[n.Rack-1].ToRs[0])}
		for _, mate := range l.Racks[n.Rack-1].Nodes {
			if mate != n {
				p.peers = append(p.peers, to(mate, "asn", as(mate)))
			}
		}
		plans[n.Name] = p
		asn[n.Name] = uint32(as(n)) //nolint:gosec // a small number
	}
	wire(l, plans)
	startFabric(ctx, t, l, asn)
	reachEverybody(ctx, t, l)
	n, mate, far := l.Node("r1n1"), l.Node("r1n2"), l.Node("r2n1")
	tors := l.ToRs()
	// Of the mate's block the ToR tells too, with our own AS in its path: that
	// way is not taken.
	must(t, throughHops(n, blockOf(ctx, t, mate), mate.Addr))
	must(t, throughHops(n, blockOf(ctx, t, far), tors[0].Addr))
	wantPath(ctx, t, n, blockOf(ctx, t, far), fmt.Sprintf("AS path %d %d %d,", tors[0].ASN, tors[1].ASN, as(far)))
	for _, s := range []map[string]session{sessions(ctx, t, n), sessions(ctx, t, far)} {
		if len(s) != 2 {
			t.Errorf("sessions up: %v, want the mate and the ToR", s)
		}
	}
}

// TestLocalAS: nodes of one AS are another one to their ToRs (local-as). The
// ToRs see that one alone, so what comes from another rack has nothing of ours
// in its path and is taken without allowOwnAS.
func TestLocalAS(t *testing.T) {
	ctx, l := build(t, lab.Spec{Name: "localas", Racks: 2, NodesPerRack: 1, Reflectors: -1, Pool: lab.Pool{Tunnel: "none", Encap: "Never"}})
	plans, asn := map[string]plan{}, map[string]uint32{}
	for i, n := range l.Nodes() {
		asn[n.Name] = uint32(65110 + i)
		plans[n.Name] = plan{asn: lab.NodeASN, peers: toToR(l.Racks[n.Rack-1].ToRs[0], "localASN", asn[n.Name])}
	}
	wire(l, plans)
	startFabric(ctx, t, l, asn)
	reachEverybody(ctx, t, l)
	n, far, tors := l.Node("r1n1"), l.Node("r2n1"), l.ToRs()
	wantPath(ctx, t, n, blockOf(ctx, t, far), fmt.Sprintf("AS path %d %d %d,", tors[0].ASN, tors[1].ASN, asn[far.Name]))
	text, err := tors[0].BIRD("show route all for " + blockOf(ctx, t, n).Addr().String())
	must(t, err)
	if want := fmt.Sprintf("BGP.as_path: %d\n", asn[n.Name]); !strings.Contains(text, want) {
		t.Errorf("the ToR does not have %q:\n%s", want, text)
	}
}

// TestNoTransit: what a node learned from one ToR it tells no other, and no
// other node's block; what it learned from nodes it tells no ToR.
func TestNoTransit(t *testing.T) {
	spec := watched("transit", 2)
	spec.ToRsPerRack = 2
	ctx, l := build(t, spec)
	n, other := l.Node("r1n1"), l.Node("r1n2")
	var routers []*interop.Router
	announced := netip.MustParsePrefix("198.18.7.0/24")
	for i, tor := range l.ToRs() {
		r := interop.New(interop.BIRD, tor.NS, l.Dir, "bird-"+tor.Name)
		t.Cleanup(func() {
			if err := r.Kill(); err != nil {
				t.Error(err)
			}
		})
		s := interop.Setup{ASN: tor.ASN, RemoteASN: lab.NodeASN, RouterID: tor.Addr, Local: tor.Addr, Remote: n.Addr, IPv4: true, HopIPv4: tor.Addr}
		if i == 0 {
			s.Announce = []netip.Prefix{announced}
		}
		must(t, r.Start(ctx, s))
		routers = append(routers, r)
	}
	listen := map[string]any{"accept": []any{announced.String()}}
	peers := []map[string]any{to(other)}
	for _, tor := range l.ToRs() {
		peers = append(peers, with(toToR(tor)[0], "import", listen))
	}
	wire(l, map[string]plan{
		n.Name:     {asn: lab.NodeASN, peers: peers},
		other.Name: {asn: lab.NodeASN, peers: []map[string]any{to(n)}},
	})
	must(t, l.StartNodes(ctx))
	must(t, waitBlocks(ctx, l))
	must(t, l.WaitConverged(ctx))
	must(t, lab.Eventually(ctx, patience, "the ToR's prefix", func() error { return throughHops(n, announced, l.ToRs()[0].Addr) }))
	// A prefix announced last: when it is there, all before it is.
	mark := netip.MustParsePrefix("10.244.223.0/26")
	c := n.Config()
	n.Edit(c)
	c["bgp"].(map[string]any)["originate"] = []any{mark.String()}
	(&editor{n: n}).send(ctx, t, c, "configuration taken")
	own := []netip.Prefix{mark}
	blocks, err := n.Blocks(ctx)
	must(t, err)
	for _, b := range blocks {
		own = append(own, netip.MustParsePrefix(b.GetCidr()))
	}
	for _, r := range routers {
		must(t, lab.Eventually(ctx, patience, r.Name+" has the node's own and no more", func() error { return learnedExactly(ctx, r, own) }))
	}
	must(t, lab.Eventually(ctx, patience, "the other node has the mark", func() error { return hasRoute(other, mark, routeProtocol) }))
	must(t, throughHops(other, announced))
}

// waitBlocks waits until every node has a block.
func waitBlocks(ctx context.Context, l *lab.Lab) error {
	for _, n := range l.Nodes() {
		err := lab.Eventually(ctx, patience, n.Name+" has a block", func() error {
			list, err := n.Blocks(ctx)
			if err == nil && len(list) == 0 {
				err = errNotLearned
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// learnedExactly wants these prefixes of a router, and no other.
func learnedExactly(ctx context.Context, r *interop.Router, want []netip.Prefix) error {
	list, err := r.Learned(ctx)
	if err != nil {
		return err
	}
	var have []netip.Prefix
	for _, route := range list {
		have = append(have, route.Prefix)
	}
	slices.SortFunc(have, netip.Prefix.Compare)
	if sorted := slices.SortedFunc(slices.Values(want), netip.Prefix.Compare); !slices.Equal(have, sorted) {
		return fmt.Errorf("has %v, want %v", have, sorted)
	}
	return nil
}

// wantPath wants a text in what a node says of the path to a block.
func wantPath(ctx context.Context, t *testing.T, n *lab.Node, block netip.Prefix, text string) {
	t.Helper()
	must(t, lab.Eventually(ctx, patience, text, func() error {
		out, err := n.Ctl(ctx, "explain", block.Addr().String())
		if err == nil && !strings.Contains(out.Stdout, text) {
			err = fmt.Errorf("%s says:\n%s", n.Name, out.Stdout)
		}
		return err
	}))
}

// startFabric starts the ToRs, which pass on between nodes what they learn.
func startFabric(ctx context.Context, t *testing.T, l *lab.Lab, asn map[string]uint32) {
	t.Helper()
	for _, tor := range l.ToRs() {
		tor.NodeASN, tor.Transit = asn, true
	}
	must(t, l.StartToRs(ctx))
}
