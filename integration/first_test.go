package integration

import (
	"net/netip"
	"testing"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestFirst: a prefix that a running agent originates becomes a route of the
// other node, and is withdrawn again. CONTRIBUTING.md shows this file.
func TestFirst(t *testing.T) {
	ctx, l := labtest.Start(t, labtest.InRack("first")) // a ToR, a reflector, two nodes with two pods each
	n, other := l.Node("r1n1"), l.Node("r1n2")
	p := netip.MustParsePrefix("10.244.222.0/26")

	c := n.Config() // as the lab wrote it
	c.BGP.Originate = []string{p.String()}
	labtest.Reload(ctx, t, n, c)
	must(t, lab.Eventually(ctx, labtest.Patience, "the prefix on the other node", func() error {
		return labtest.ThroughHops(other, p, n.Addr)
	}))

	labtest.Reload(ctx, t, n, n.Config())
	must(t, lab.Eventually(ctx, labtest.Patience, "no such route", func() error {
		return labtest.ThroughHops(other, p)
	}))
}
