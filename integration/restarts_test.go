package integration

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestRestarts ends an agent in every way while a thousand packets a second of
// each family go through its node: none is lost, and neither the other nodes
// nor the ToR (FRR) change a route.
func TestRestarts(t *testing.T) {
	ctx, l := labtest.Build(t, lab.Spec{
		Name: "again", Racks: 1, NodesPerRack: 3, Reflectors: -1, ToR: lab.FRR, DualStack: true,
		Pool: lab.Pool{Tunnel: "none", CIDR6: netip.MustParsePrefix("fd44::/48")},
	})
	rounds := labtest.Times(1, 10)
	if *labtest.Long {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), time.Hour)
		t.Cleanup(cancel)
	}
	l.Bin = t.TempDir()
	must(t, labtest.ReplaceProgram(labtest.Bin(), l.Bin, "onlinkctl"))
	must(t, labtest.ReplaceProgram(labtest.Bin(), l.Bin, "onlinkd"))
	must(t, labtest.ReplaceProgram(labtest.Bin(), l.Bin, "onlink-cni"))
	must(t, l.StartToRs(ctx))
	must(t, l.StartNodes(ctx))
	pods := map[string]*lab.Pod{}
	for _, n := range l.Workers() {
		p, err := n.AddPod(ctx, n.Name+"-pod")
		must(t, err)
		pods[n.Name] = p
	}
	must(t, l.WaitConverged(ctx))
	_, err := l.PingFromToRs(ctx) // it has the blocks
	must(t, err)
	victim := l.Node("r1n1")
	for _, end := range []struct {
		name string
		stop func() error
	}{
		{"SIGKILL", victim.Kill},
		{"SIGTERM", victim.Stop},
		{"binary swap", func() error {
			return errors.Join(labtest.ReplaceProgram(labtest.Bin(), l.Bin, "onlinkd"), victim.Stop())
		}},
	} {
		t.Run(end.name, func(t *testing.T) {
			stop := labtest.Witness(ctx, t, l, victim, pods["r1n1"], []*lab.Pod{pods["r1n2"], pods["r1n3"]})
			for range rounds {
				before, err := labtest.Inode(victim)
				must(t, err)
				must(t, end.stop())
				labtest.StartNode(ctx, t, victim)
				must(t, l.WaitConverged(ctx))
				must(t, lab.Eventually(ctx, labtest.Patience, "everything announced anew", func() error { return labtest.AnnouncedAnew(ctx, l, victim) }))
				after, err := labtest.Inode(victim)
				must(t, err)
				if swapped := before != after; swapped != (end.name == "binary swap") {
					t.Errorf("the agent's program is another one: %t", swapped)
				}
			}
			stop()
		})
	}
}
