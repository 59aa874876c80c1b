package integration

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/interop"
	"onlink/integration/lab"
)

// wire gives the nodes these sections bgp, by name; the lab's registry and
// pools stay.
func wire(l *lab.Lab, plans map[string]conf.BGP) {
	for _, n := range l.Nodes() {
		n.Edit = func(c *conf.Config) { c.BGP = plans[n.Name] }
	}
}

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
	meshed := func(n *lab.Node, hold string) *conf.Config {
		mesh := &conf.Mesh{ConnectRetry: "2s", HoldTime: hold}
		for _, other := range l.Nodes() {
			mesh.Nodes = append(mesh.Nodes, conf.MeshNode{Name: other.Name, Address: other.Addr.String()})
		}
		c := n.Config()
		c.BGP = conf.BGP{ASN: lab.NodeASN, Mesh: mesh}
		return c
	}
	for _, n := range l.Nodes() {
		n.Edit = func(c *conf.Config) { *c = *meshed(n, "90s") }
	}
	reachEverybody(ctx, t, l)
	n := l.Node("r1n1")
	c := meshed(n, "30s")
	reload(ctx, t, n, c)
	mesh := c.BGP.Mesh
	mesh.Nodes = append(mesh.Nodes, conf.MeshNode{Address: "10.57.1.99"}) // not there yet
	reload(ctx, t, n, c)
	mesh.Nodes = mesh.Nodes[1:] // this node itself
	refuseReload(ctx, t, n, c)
	reload(ctx, t, n, meshed(n, "90s"))
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
	up := func(p *conf.Peer) { p.Export.Reflected = true }
	client := func(p *conf.Peer) { p.Client = true }
	reflector := &conf.Reflector{}
	wire(l, map[string]conf.BGP{
		top.Name:   {ASN: as, Reflector: reflector, Peers: []*conf.Peer{low1.Peer().With(client), low2.Peer().With(client)}},
		low1.Name:  {ASN: as, Reflector: reflector, Peers: []*conf.Peer{top.Peer().With(up), leaf1.Peer().With(client)}},
		low2.Name:  {ASN: as, Reflector: reflector, Peers: []*conf.Peer{top.Peer().With(up), leaf2.Peer().With(client)}},
		leaf1.Name: {ASN: as, Peers: []*conf.Peer{low1.Peer()}},
		leaf2.Name: {ASN: as, Peers: []*conf.Peer{low2.Peer()}},
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
	for _, list := range [][]netip.Prefix{{p}, {}} {
		originate(ctx, t, leaf1, list...)
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

// toToR is a node's session to a router that announces the pods of others.
func toToR(tor *lab.ToR) *conf.Peer {
	p := tor.Peer()
	p.Import.Accept = conf.Rules("10.244.0.0/16")
	return p
}

// TestASPerNode: every node has an AS of its own and peers with its ToR alone.
func TestASPerNode(t *testing.T) {
	ctx, l := fabric(t, "asnode", 2)
	plans, asn := map[string]conf.BGP{}, map[string]uint32{}
	for i, n := range l.Nodes() {
		asn[n.Name] = uint32(64601 + i)
		plans[n.Name] = conf.BGP{ASN: asn[n.Name], Peers: []*conf.Peer{toToR(l.Racks[n.Rack-1].ToRs[0])}}
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
	plans, asn := map[string]conf.BGP{}, map[string]uint32{}
	for _, n := range l.Nodes() {
		up := toToR(l.Racks[n.Rack-1].ToRs[0])
		if n.Name != "r2n2" {
			up.AllowOwnAS = 1
		}
		plans[n.Name] = conf.BGP{ASN: as, Peers: []*conf.Peer{up}}
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
	plans, asn := map[string]conf.BGP{}, map[string]uint32{}
	as := func(n *lab.Node) uint32 { return uint32(64700 + n.Rack) } //nolint:gosec // a small number
	for _, n := range l.Nodes() {
		p := conf.BGP{ASN: as(n), Peers: []*conf.Peer{toToR(l.Racks[n.Rack-1].ToRs[0])}}
		for _, mate := range l.Racks[n.Rack-1].Nodes {
			if mate != n {
				p.Peers = append(p.Peers, mate.Peer().With(func(p *conf.Peer) { p.ASN = as(mate) }))
			}
		}
		plans[n.Name] = p
		asn[n.Name] = as(n)
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
	plans, asn := map[string]conf.BGP{}, map[string]uint32{}
	for i, n := range l.Nodes() {
		asn[n.Name] = uint32(65110 + i)
		up := toToR(l.Racks[n.Rack-1].ToRs[0])
		up.LocalASN = asn[n.Name]
		plans[n.Name] = conf.BGP{ASN: lab.NodeASN, Peers: []*conf.Peer{up}}
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
		s := setupOf(tor, n)
		if i == 0 {
			s.Announce = []netip.Prefix{announced}
		}
		routers = append(routers, startRouter(ctx, t, l, interop.BIRD, tor, s))
	}
	peers := []*conf.Peer{other.Peer()}
	for _, tor := range l.ToRs() {
		peers = append(peers, tor.Peer().With(func(p *conf.Peer) { p.Import.Accept = conf.Rules(announced) }))
	}
	wire(l, map[string]conf.BGP{
		n.Name:     {ASN: lab.NodeASN, Peers: peers},
		other.Name: {ASN: lab.NodeASN, Peers: []*conf.Peer{n.Peer()}},
	})
	must(t, l.StartNodes(ctx))
	must(t, waitBlocks(ctx, l))
	must(t, l.WaitConverged(ctx))
	must(t, lab.Eventually(ctx, patience, "the ToR's prefix", func() error { return throughHops(n, announced, l.ToRs()[0].Addr) }))
	// A prefix announced last: when it is there, all before it is.
	mark := netip.MustParsePrefix("10.244.223.0/26")
	originate(ctx, t, n, mark)
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
