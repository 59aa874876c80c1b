package integration

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/interop"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestMesh: without reflectors every node peers with every other, by one list
// that is the same in every node's file. There is one session between two nodes,
// and it stays, also when the list or what its sessions share is changed.
func TestMesh(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Mesh("mesh", 4))
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
	labtest.ReachEverybody(ctx, t, l)
	n := l.Node("r1n1")
	c := meshed(n, "30s")
	labtest.Reload(ctx, t, n, c)
	mesh := c.BGP.Mesh
	mesh.Nodes = append(mesh.Nodes, conf.MeshNode{Address: "10.57.1.99"}) // not there yet
	labtest.Reload(ctx, t, n, c)
	mesh.Nodes = mesh.Nodes[1:] // this node itself
	labtest.RefuseReload(ctx, t, n, c)
	labtest.Reload(ctx, t, n, meshed(n, "90s"))
	for _, n := range l.Nodes() {
		up := labtest.Sessions(ctx, t, n)
		if len(up) != 3 {
			t.Errorf("%s has %d sessions, want 3", n.Name, len(up))
		}
		for name, s := range up {
			if s.Flaps > 0 {
				t.Errorf("%s: the session to %s came up %d times more than once", n.Name, name, s.Flaps)
			}
		}
	}
}

// TestHierarchy: two lower reflectors with a client each are themselves
// clients of an upper one (RFC 4456 section 7). A block of one client reaches
// the other with its own next hop, and leaves with it.
func TestHierarchy(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Mesh("tiers", 5))
	top, low1, low2, leaf1, leaf2 := l.Node("r1n1"), l.Node("r1n2"), l.Node("r1n3"), l.Node("r1n4"), l.Node("r1n5")
	const as = lab.NodeASN
	up := func(p *conf.Peer) { p.Export.Reflected = true }
	client := func(p *conf.Peer) { p.Client = true }
	reflector := &conf.Reflector{}
	labtest.Wire(l, map[string]conf.BGP{
		top.Name:   {ASN: as, Reflector: reflector, Peers: []*conf.Peer{low1.Peer().With(client), low2.Peer().With(client)}},
		low1.Name:  {ASN: as, Reflector: reflector, Peers: []*conf.Peer{top.Peer().With(up), leaf1.Peer().With(client)}},
		low2.Name:  {ASN: as, Reflector: reflector, Peers: []*conf.Peer{top.Peer().With(up), leaf2.Peer().With(client)}},
		leaf1.Name: {ASN: as, Peers: []*conf.Peer{low1.Peer()}},
		leaf2.Name: {ASN: as, Peers: []*conf.Peer{low2.Peer()}},
	})
	labtest.ReachEverybody(ctx, t, l)
	block := labtest.BlockOf(ctx, t, leaf1)
	must(t, labtest.ThroughHops(leaf2, block, leaf1.Addr)) // past both reflectors
	out, err := leaf2.Ctl(ctx, "explain", block.Addr().String())
	must(t, err)
	if want := "reflected for " + leaf1.Addr.String(); !strings.Contains(out.Stdout, want) {
		t.Errorf("the path is not %q:\n%s", want, out.Stdout)
	}
	p := netip.MustParsePrefix("10.244.222.0/26")
	for _, list := range [][]netip.Prefix{{p}, {}} {
		labtest.Originate(ctx, t, leaf1, list...)
		must(t, lab.Eventually(ctx, labtest.Patience, fmt.Sprintf("%v everywhere", list), func() error {
			if len(list) == 0 {
				return labtest.UnknownTo(ctx, l.Nodes(), p)
			}
			return labtest.KnownTo(ctx, l.Nodes(), []*lab.Node{leaf1}, p)
		}))
	}
}

// fabric is a lab of racks whose routers are BIRDs that pass on everything, as
// those of an eBGP fabric do.
func fabric(t *testing.T, name string, racks int) (context.Context, *lab.Lab) {
	t.Helper()
	return labtest.Build(t, lab.Spec{Name: name, Racks: racks, NodesPerRack: 2, Reflectors: -1, Pool: lab.Pool{Tunnel: "none", Encap: "Never"}})
}

// TestASPerNode: every node has an AS of its own and peers with its ToR alone.
func TestASPerNode(t *testing.T) {
	ctx, l := fabric(t, "asnode", 2)
	plans, asn := map[string]conf.BGP{}, map[string]uint32{}
	for i, n := range l.Nodes() {
		asn[n.Name] = uint32(64601 + i)
		plans[n.Name] = conf.BGP{ASN: asn[n.Name], Peers: []*conf.Peer{labtest.FabricPeer(l.Racks[n.Rack-1].ToRs[0])}}
	}
	labtest.Wire(l, plans)
	labtest.StartFabric(ctx, t, l, asn)
	labtest.ReachEverybody(ctx, t, l)
	far := labtest.BlockOf(ctx, t, l.Node("r2n1"))
	must(t, labtest.ThroughHops(l.Node("r1n1"), far, l.ToRs()[0].Addr))
	labtest.WantPath(ctx, t, l.Node("r1n1"), far, fmt.Sprintf("AS path %d %d %d,", l.ToRs()[0].ASN, l.ToRs()[1].ASN, asn["r2n1"]))
}

// TestSameASPerRack: the nodes of every rack have the same AS, so what comes
// from another rack has our own AS in its path: allowOwnAS takes it.
func TestSameASPerRack(t *testing.T) {
	ctx, l := fabric(t, "asrack", 2)
	const as = 64700
	plans, asn := map[string]conf.BGP{}, map[string]uint32{}
	for _, n := range l.Nodes() {
		up := labtest.FabricPeer(l.Racks[n.Rack-1].ToRs[0])
		if n.Name != "r2n2" {
			up.AllowOwnAS = 1
		}
		plans[n.Name] = conf.BGP{ASN: as, Peers: []*conf.Peer{up}}
		asn[n.Name] = as
	}
	labtest.Wire(l, plans)
	labtest.StartFabric(ctx, t, l, asn)
	must(t, l.StartNodes(ctx))
	strict := l.Node("r2n2")
	must(t, labtest.WaitBlocks(ctx, l))
	for _, n := range l.Nodes() {
		for _, other := range l.Nodes() {
			if n == other || n == strict {
				continue
			}
			block := labtest.BlockOf(ctx, t, other)
			must(t, lab.Eventually(ctx, labtest.Patience, fmt.Sprintf("%s learns the block of %s", n.Name, other.Name), func() error {
				return labtest.HasRoute(n, block, labtest.RouteProtocol)
			}))
		}
	}
	far := labtest.BlockOf(ctx, t, l.Node("r2n1"))
	labtest.WantPath(ctx, t, l.Node("r1n1"), far, fmt.Sprintf("AS path %d %d %d,", l.ToRs()[0].ASN, l.ToRs()[1].ASN, as))
	// Without allowOwnAS nothing of the others is taken (RFC 4271 section 9.1.2).
	for _, other := range l.Nodes() {
		if other != strict {
			must(t, labtest.ThroughHops(strict, labtest.BlockOf(ctx, t, other)))
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
		p := conf.BGP{ASN: as(n), Peers: []*conf.Peer{labtest.FabricPeer(l.Racks[n.Rack-1].ToRs[0])}}
		for _, mate := range l.Racks[n.Rack-1].Nodes {
			if mate != n {
				p.Peers = append(p.Peers, mate.Peer().With(func(p *conf.Peer) { p.ASN = as(mate) }))
			}
		}
		plans[n.Name] = p
		asn[n.Name] = as(n)
	}
	labtest.Wire(l, plans)
	labtest.StartFabric(ctx, t, l, asn)
	labtest.ReachEverybody(ctx, t, l)
	n, mate, far := l.Node("r1n1"), l.Node("r1n2"), l.Node("r2n1")
	tors := l.ToRs()
	// Of the mate's block the ToR tells too, with our own AS in its path: that
	// way is not taken.
	must(t, labtest.ThroughHops(n, labtest.BlockOf(ctx, t, mate), mate.Addr))
	must(t, labtest.ThroughHops(n, labtest.BlockOf(ctx, t, far), tors[0].Addr))
	labtest.WantPath(ctx, t, n, labtest.BlockOf(ctx, t, far), fmt.Sprintf("AS path %d %d %d,", tors[0].ASN, tors[1].ASN, as(far)))
	for _, s := range []map[string]labtest.Session{labtest.Sessions(ctx, t, n), labtest.Sessions(ctx, t, far)} {
		if len(s) != 2 {
			t.Errorf("sessions up: %v, want the mate and the ToR", s)
		}
	}
}

// TestLocalAS: nodes of one AS are another one to their ToRs (local-as). The
// ToRs see that one alone, so what comes from another rack has nothing of ours
// in its path and is taken without allowOwnAS.
func TestLocalAS(t *testing.T) {
	ctx, l := labtest.Build(t, lab.Spec{Name: "localas", Racks: 2, NodesPerRack: 1, Reflectors: -1, Pool: lab.Pool{Tunnel: "none", Encap: "Never"}})
	plans, asn := map[string]conf.BGP{}, map[string]uint32{}
	for i, n := range l.Nodes() {
		asn[n.Name] = uint32(65110 + i)
		up := labtest.FabricPeer(l.Racks[n.Rack-1].ToRs[0])
		up.LocalASN = asn[n.Name]
		plans[n.Name] = conf.BGP{ASN: lab.NodeASN, Peers: []*conf.Peer{up}}
	}
	labtest.Wire(l, plans)
	labtest.StartFabric(ctx, t, l, asn)
	labtest.ReachEverybody(ctx, t, l)
	n, far, tors := l.Node("r1n1"), l.Node("r2n1"), l.ToRs()
	labtest.WantPath(ctx, t, n, labtest.BlockOf(ctx, t, far), fmt.Sprintf("AS path %d %d %d,", tors[0].ASN, tors[1].ASN, asn[far.Name]))
	text, err := tors[0].BIRD("show route all for " + labtest.BlockOf(ctx, t, n).Addr().String())
	must(t, err)
	if want := fmt.Sprintf("BGP.as_path: %d\n", asn[n.Name]); !strings.Contains(text, want) {
		t.Errorf("the ToR does not have %q:\n%s", want, text)
	}
}

// TestNoTransit: what a node learned from one ToR it tells no other, and no
// other node's block; what it learned from nodes it tells no ToR.
func TestNoTransit(t *testing.T) {
	spec := labtest.Mesh("transit", 2)
	spec.ToRsPerRack = 2
	ctx, l := labtest.Build(t, spec)
	n, other := l.Node("r1n1"), l.Node("r1n2")
	var routers []*interop.Router
	announced := netip.MustParsePrefix("198.18.7.0/24")
	for i, tor := range l.ToRs() {
		s := labtest.SetupOf(tor, n)
		if i == 0 {
			s.Announce = []netip.Prefix{announced}
		}
		routers = append(routers, labtest.StartRouter(ctx, t, l, interop.BIRD, tor, s))
	}
	peers := []*conf.Peer{other.Peer()}
	for _, tor := range l.ToRs() {
		peers = append(peers, tor.Peer().With(func(p *conf.Peer) { p.Import.Accept = conf.Rules(announced) }))
	}
	labtest.Wire(l, map[string]conf.BGP{
		n.Name:     {ASN: lab.NodeASN, Peers: peers},
		other.Name: {ASN: lab.NodeASN, Peers: []*conf.Peer{n.Peer()}},
	})
	must(t, l.StartNodes(ctx))
	must(t, labtest.WaitBlocks(ctx, l))
	must(t, l.WaitConverged(ctx))
	must(t, lab.Eventually(ctx, labtest.Patience, "the ToR's prefix", func() error { return labtest.ThroughHops(n, announced, l.ToRs()[0].Addr) }))
	// A prefix announced last: when it is there, all before it is.
	mark := netip.MustParsePrefix("10.244.223.0/26")
	labtest.Originate(ctx, t, n, mark)
	own := []netip.Prefix{mark}
	blocks, err := n.Blocks(ctx)
	must(t, err)
	for _, b := range blocks {
		own = append(own, netip.MustParsePrefix(b.GetCidr()))
	}
	for _, r := range routers {
		must(t, lab.Eventually(ctx, labtest.Patience, r.Name+" has the node's own and no more", func() error { return labtest.LearnedExactly(ctx, r, own) }))
	}
	must(t, lab.Eventually(ctx, labtest.Patience, "the other node has the mark", func() error { return labtest.HasRoute(other, mark, labtest.RouteProtocol) }))
	must(t, labtest.ThroughHops(other, announced))
}
