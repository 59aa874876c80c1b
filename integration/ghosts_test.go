package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/lab"
)

// TestGhosts announces and withdraws prefixes over two reflectors, from one
// node, from both reflectors, from all: after each withdrawal nobody has the
// prefix any more, not even from somebody who has it from somebody.
func TestGhosts(t *testing.T) {
	ctx, l := build(t, lab.Spec{Name: "ghosts", Racks: 1, NodesPerRack: 2, Reflectors: 2, Pool: lab.Pool{Tunnel: "none"}})
	if *long {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), time.Hour)
		t.Cleanup(cancel)
	}
	for _, n := range l.Nodes() {
		n.Edit = takeServices
	}
	upAll(ctx, t, l)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	nodes := l.Nodes()
	var all []netip.Prefix
	for run := range times(6, 200) {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 99, 220, byte(run)}), 32)
		from := nodes[:1+rnd.IntN(len(nodes))]
		switch rnd.IntN(3) {
		case 0:
			from = l.Reflectors()
		case 1:
			from = l.Workers()[:1]
		}
		for _, n := range from {
			originate(ctx, t, n, p)
		}
		must(t, lab.Eventually(ctx, patience, p.String()+" is everywhere", func() error { return knownTo(ctx, nodes, from, p) }))
		for _, i := range rnd.Perm(len(from)) {
			originate(ctx, t, from[i])
		}
		err := lab.Eventually(ctx, patience, p.String()+" is nowhere", func() error { return unknownTo(ctx, nodes, p) })
		if err != nil {
			t.Fatalf("run %d, announced by %d nodes: %v", run, len(from), err)
		}
		all = append(all, p)
	}
	must(t, unknownTo(ctx, nodes, all...)) // none has come back
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

// originate changes the prefixes that a running agent announces besides its
// blocks.
func originate(ctx context.Context, t *testing.T, n *lab.Node, prefixes ...netip.Prefix) {
	t.Helper()
	c := n.Edited()
	c.BGP.Originate = conf.Strings(prefixes...)
	reload(ctx, t, n, c)
}

// knownTo wants a prefix of all nodes but those that announce it.
func knownTo(ctx context.Context, nodes, from []*lab.Node, p netip.Prefix) error {
	announces := map[*lab.Node]bool{}
	for _, n := range from {
		announces[n] = true
	}
	for _, n := range nodes {
		if announces[n] {
			continue
		}
		if err := hasRoute(n, p, routeProtocol); err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
	}
	return ctx.Err()
}

// unknownTo wants prefixes of nobody, neither in a kernel nor among the decided
// routes.
func unknownTo(ctx context.Context, nodes []*lab.Node, prefixes ...netip.Prefix) error {
	ghost := map[string]bool{}
	for _, p := range prefixes {
		ghost[p.String()] = true
	}
	for _, n := range nodes {
		kernel, err := n.NS.Routes(routeProtocol)
		if err != nil {
			return err
		}
		for _, r := range kernel {
			if ghost[r.Prefix.String()] {
				return fmt.Errorf("%s has %s: %w", n.Name, r, errGhost)
			}
		}
		routes, err := n.Routes(ctx)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if ghost[r.GetPrefix()] {
				return fmt.Errorf("%s decides %v: %w", n.Name, r, errGhost)
			}
		}
	}
	return nil
}

var errGhost = errors.New("a route nobody announces")
