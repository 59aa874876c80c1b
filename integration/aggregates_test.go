package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/interop"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestAggregates: one ToR is told an aggregate and nothing inside it, the other
// an aggregate beside the block, the nodes none of both. The node goes on to
// learn what others have inside, forwards it, drops the rest, and withdraws an
// aggregate with the last that it stands for.
func TestAggregates(t *testing.T) {
	spec := labtest.Mesh("aggregates", 2)
	spec.ToRsPerRack = 2
	ctx, l := labtest.Build(t, spec)
	n, other := l.Node("r1n1"), l.Node("r1n2")
	pool, tail := netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("10.244.255.0/24")
	extra := netip.MustParsePrefix("10.244.255.7/32")
	tors := l.ToRs()
	frr := labtest.StartRouter(ctx, t, l, interop.FRR, tors[0], labtest.SetupOf(tors[0], n))
	bird := labtest.StartRouter(ctx, t, l, interop.BIRD, tors[1], labtest.SetupOf(tors[1], n))
	aggregate := func(tor *lab.ToR, list ...conf.Aggregate) *conf.Peer {
		return labtest.FabricPeer(tor).With(func(p *conf.Peer) { p.Export.Aggregates = list })
	}
	labtest.Wire(l, map[string]conf.BGP{
		n.Name: {ASN: lab.NodeASN, Peers: []*conf.Peer{
			other.Peer(),
			aggregate(l.ToRs()[0], conf.Aggregate{Prefix: pool.String(), SummaryOnly: true}),
			aggregate(l.ToRs()[1], conf.Aggregate{Prefix: tail.String()}, conf.Aggregate{Prefix: pool.String()}),
		}},
		other.Name: {ASN: lab.NodeASN, Peers: []*conf.Peer{n.Peer()}},
	})
	must(t, l.StartNodes(ctx))
	pod, err := other.AddPod(ctx, "pod")
	must(t, err)
	must(t, l.WaitConverged(ctx))
	blocks := func() []netip.Prefix {
		var out []netip.Prefix
		list, err := n.Blocks(ctx)
		must(t, err)
		for _, b := range list {
			out = append(out, netip.MustParsePrefix(b.GetCidr()))
		}
		return out
	}
	told := func(what string, r *interop.Router, want ...netip.Prefix) {
		t.Helper()
		must(t, lab.Eventually(ctx, labtest.Patience, what, func() error { return labtest.LearnedExactly(ctx, r, want) }))
	}
	told("the aggregate alone", frr, pool)
	told("aggregate and block, not the empty aggregate", bird, append(blocks(), pool)...)

	// The other node's block lies inside and is known all the same; the node
	// itself is told to nobody as the way to all of the pool.
	must(t, labtest.ThroughHops(n, labtest.BlockOf(ctx, t, other), other.Addr))
	must(t, isBlackhole(n, pool))
	must(t, labtest.UnknownTo(ctx, []*lab.Node{other}, pool))
	must(t, lab.Eventually(ctx, labtest.Patience, "a packet from the ToR through the aggregate", func() error {
		_, err := l.ToRs()[0].NS.Ping(ctx, pod.Addr(), 1, 2*time.Second)
		return err
	}))
	out, err := n.Ctl(ctx, "policy", "test", "--peer", l.ToRs()[0].Name, "--direction", "export", blocks()[0].String())
	if err != nil || !strings.Contains(out.Stdout, "REJECTED: inside an aggregate with summaryOnly") {
		t.Errorf("policy test of a block: %v, %s", err, out.Stdout)
	}

	labtest.Originate(ctx, t, n, extra)
	told("both aggregates and what is inside", bird, append(blocks(), pool, tail, extra)...)
	told("still the aggregate alone", frr, pool)
	labtest.Originate(ctx, t, n)
	told("the aggregate gone with its last contributor", bird, append(blocks(), pool)...)
	must(t, lab.Eventually(ctx, labtest.Patience, "its drop route gone", func() error { return labtest.UnknownTo(ctx, []*lab.Node{n}, tail) }))

	_, err = n.Ctl(ctx, "drain", "--wait", "0s")
	must(t, err)
	told("nothing of a drained node", frr)
	told("nothing of a drained node", bird)
	_, err = n.Ctl(ctx, "undrain")
	must(t, err)
	told("the aggregate again", frr, pool)
}

// TestAggregatesReload: a running agent is given an aggregate for one of its two ToRs, by
// reload and by the API, and without it again: that ToR has the aggregate in place of the
// blocks, and the blocks again, the other ToR the blocks all the time; no session resets.
func TestAggregatesReload(t *testing.T) {
	spec := labtest.Mesh("aggregates", 2)
	spec.ToRsPerRack = 2
	ctx, l := labtest.Build(t, spec)
	n, other := l.Node("r1n1"), l.Node("r1n2")
	tors, pool := l.ToRs(), "10.244.0.0/16"
	with := labtest.StartRouter(ctx, t, l, interop.BIRD, tors[0], labtest.SetupOf(tors[0], n))
	without := labtest.StartRouter(ctx, t, l, interop.BIRD, tors[1], labtest.SetupOf(tors[1], n))
	labtest.Wire(l, map[string]conf.BGP{
		n.Name:     {ASN: lab.NodeASN, Peers: []*conf.Peer{other.Peer(), labtest.FabricPeer(tors[0]), labtest.FabricPeer(tors[1])}},
		other.Name: {ASN: lab.NodeASN, Peers: []*conf.Peer{n.Peer()}},
	})
	must(t, l.StartNodes(ctx))
	must(t, l.WaitConverged(ctx))
	block := labtest.BlockOf(ctx, t, n)
	has := func(what string, r *interop.Router, want ...string) {
		t.Helper()
		var list []netip.Prefix
		for _, p := range want {
			list = append(list, netip.MustParsePrefix(p))
		}
		must(t, lab.Eventually(ctx, labtest.Patience, what, func() error { return labtest.LearnedExactly(ctx, r, list) }))
	}
	extra := netip.PrefixFrom(netip.MustParseAddr("10.244.255.7"), 32)
	has("the block at first", with, block.String())
	has("the block at first", without, block.String())
	before := labtest.Sessions(ctx, t, n)
	if len(before) != 3 {
		t.Fatalf("%d sessions up, want both ToRs and the other node", len(before))
	}
	config := func(extra []netip.Prefix, aggregates ...conf.Aggregate) *conf.Config {
		c := n.Edited()
		c.BGP.Peer(tors[0].Name).Export.Aggregates = aggregates
		c.BGP.Originate = conf.Strings(extra...)
		return c
	}
	summary := conf.Aggregate{Prefix: pool, SummaryOnly: true}

	labtest.Reload(ctx, t, n, config(nil, summary))
	has("the aggregate in place of the block", with, pool)
	has("the block as before", without, block.String())
	labtest.Reload(ctx, t, n, config([]netip.Prefix{extra}, summary))
	has("nothing of a new prefix inside", with, pool)
	has("a new prefix", without, block.String(), extra.String())
	labtest.Reload(ctx, t, n, config([]netip.Prefix{extra}, conf.Aggregate{Prefix: pool}))
	has("the aggregate and what is inside", with, pool, block.String(), extra.String())
	labtest.Reload(ctx, t, n, config([]netip.Prefix{extra}, summary))
	has("the aggregate alone again", with, pool)
	labtest.Reload(ctx, t, n, config(nil))
	has("the block again", with, block.String())
	has("the block as before", without, block.String())

	text, err := config(nil, summary).YAML()
	must(t, err)
	path, err := n.WriteText("aggregate.yaml", text)
	must(t, err)
	labtest.WantCtl(ctx, t, n, 0, "", "config", "apply", path)
	has("the aggregate by the API", with, pool)
	has("the block as before", without, block.String())
	must(t, labtest.UnknownTo(ctx, []*lab.Node{other}, netip.MustParsePrefix(pool)))
	for name, was := range before {
		same(t, name, was, labtest.Sessions(ctx, t, n)[name])
	}
}

// isBlackhole wants the node's kernel to drop what goes to a prefix and nowhere
// more specific.
func isBlackhole(n *lab.Node, p netip.Prefix) error {
	routes, err := n.NS.Routes(labtest.RouteProtocol)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.Prefix == p && r.Type == "blackhole" {
			return nil
		}
	}
	return fmt.Errorf("%s does not drop %s: %v", n.Name, p, routes)
}
