package integration

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestGhosts announces and withdraws prefixes over two reflectors, from one
// node, from both reflectors, from all: after each withdrawal nobody has the
// prefix any more, not even from somebody who has it from somebody.
func TestGhosts(t *testing.T) {
	ctx, l := labtest.Build(t, lab.Spec{Name: "ghosts", Racks: 1, NodesPerRack: 2, Reflectors: 2, Pool: lab.Pool{Tunnel: "none"}})
	if *labtest.Long {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), time.Hour)
		t.Cleanup(cancel)
	}
	for _, n := range l.Nodes() {
		n.Edit = takeServices
	}
	labtest.StartAll(ctx, t, l)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	nodes := l.Nodes()
	var all []netip.Prefix
	for run := range labtest.Times(6, 200) {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 99, 220, byte(run)}), 32)
		from := nodes[:1+rnd.IntN(len(nodes))]
		switch rnd.IntN(3) {
		case 0:
			from = l.Reflectors()
		case 1:
			from = l.Workers()[:1]
		}
		for _, n := range from {
			labtest.Originate(ctx, t, n, p)
		}
		must(t, lab.Eventually(ctx, labtest.Patience, p.String()+" is everywhere", func() error { return labtest.KnownTo(ctx, nodes, from, p) }))
		for _, i := range rnd.Perm(len(from)) {
			labtest.Originate(ctx, t, from[i])
		}
		err := lab.Eventually(ctx, labtest.Patience, p.String()+" is nowhere", func() error { return labtest.UnknownTo(ctx, nodes, p) })
		if err != nil {
			t.Fatalf("run %d, announced by %d nodes: %v", run, len(from), err)
		}
		all = append(all, p)
	}
	must(t, labtest.UnknownTo(ctx, nodes, all...)) // none has come back
}

// takeServices lets the nodes announce prefixes outside the pools to each
// other, where one may be several nodes'.
func takeServices(c *conf.Config) {
	accept := conf.Rules("10.99.0.0/16")
	if c.BGP.Reflector != nil {
		c.BGP.Reflector.Import.Accept = accept
	}
	for _, p := range c.BGP.Peers {
		if strings.HasPrefix(p.Name, "rr") {
			p.Import.Accept = accept
		}
	}
}
