package integration

import (
	"context"
	"fmt"
	"testing"

	"onlink/integration/lab"
)

// TestTwoRacks is the main job: two racks, real ToRs, pods that reach each
// other directly inside a rack and through ipip across.
func TestTwoRacks(t *testing.T) {
	needIPIP(t)
	ctx, l := start(t, lab.Spec{Name: "racks"})
	t.Run("everything reaches every pod", func(t *testing.T) { checkReach(ctx, t, l, 56, true) })
	t.Run("kernels hold the decided routes", func(t *testing.T) { checkRoutes(ctx, t, l) })
	t.Run("a killed agent loses no packet", func(t *testing.T) {
		checkKill(ctx, t, l, l.Node("r1n1"), podOf(l, "r1n1"), podOf(l, "r2n1"))
	})
	t.Run("a killed reflector loses no packet", func(t *testing.T) {
		checkKill(ctx, t, l, l.Node("rr1"), podOf(l, "r1n1"), podOf(l, "r2n1"))
	})
	t.Run("a deleted tunnel device comes back", func(t *testing.T) { checkDeviceBack(ctx, t, l) })
	t.Run("a deleted route comes back", func(t *testing.T) { checkRouteBack(ctx, t, l, l.Node("r1n1"), l.Node("r2n1")) })
	t.Run("a foreign route is left alone", func(t *testing.T) { checkForeign(ctx, t, l, l.Node("r1n1"), l.Node("r2n1")) })
	t.Run("deleted pods leave nothing", func(t *testing.T) { checkDeleted(ctx, t, l) })
}

// TestOneRack is the part of the main job that needs no tunnel.
func TestOneRack(t *testing.T) {
	ctx, l := start(t, inRack("rack"))
	t.Run("everything reaches every pod", func(t *testing.T) { checkReach(ctx, t, l, 12, false) })
	t.Run("kernels hold the decided routes", func(t *testing.T) { checkRoutes(ctx, t, l) })
	t.Run("the CLI tells", func(t *testing.T) { checkCLI(ctx, t, l) })
	t.Run("a killed agent loses no packet", func(t *testing.T) {
		checkKill(ctx, t, l, l.Node("r1n1"), podOf(l, "r1n1"), podOf(l, "r1n2"))
	})
	t.Run("a deleted route comes back", func(t *testing.T) { checkRouteBack(ctx, t, l, l.Node("r1n1"), l.Node("r1n2")) })
	t.Run("a foreign route is left alone", func(t *testing.T) { checkForeign(ctx, t, l, l.Node("r1n1"), l.Node("r1n2")) })
	t.Run("deleted pods leave nothing", func(t *testing.T) { checkDeleted(ctx, t, l) })
}

// TestToRs is the reach of the main job with every routing program that is
// installed here; FRR is optional.
func TestToRs(t *testing.T) {
	needIPIP(t)
	for _, kind := range lab.ToRKinds() {
		t.Run(string(kind), func(t *testing.T) {
			ctx, l := start(t, lab.Spec{Name: string(kind), ToR: kind, NodesPerRack: 1})
			checkRoutes(ctx, t, l)
			pairs, err := l.PingPods(ctx, 1)
			if err != nil || pairs != 12 {
				t.Errorf("ping: %d pairs, %v; want 12", pairs, err)
			}
			if _, err := l.PingFromToRs(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// checkReach pings and transfers between all pods, hosts and ToRs; across says
// that captures must show the tunnel.
func checkReach(ctx context.Context, t *testing.T, l *lab.Lab, want int, across bool) {
	tap, err := l.Tap()
	must(t, err)
	if pairs, err := l.PingPods(ctx, 2); err != nil || pairs != want {
		t.Errorf("ping: %d pairs, %v; want %d", pairs, err, want)
	}
	if pairs, err := l.TransferPods(ctx, 64<<10); err != nil || pairs != want {
		t.Errorf("TCP: %d pairs, %v; want %d", pairs, err, want)
	}
	if _, err := l.PingFromNodes(ctx); err != nil {
		t.Error(err)
	}
	if _, err := l.PingFromToRs(ctx); err != nil {
		t.Error(err)
	}
	seen, err := tap.Stop()
	must(t, err)
	for _, s := range seen {
		if across {
			if err := s.Proved(); err != nil {
				t.Error(err)
			}
		} else if s.PlainInRack == 0 || s.TunnelIn+s.TunnelCross > 0 {
			t.Errorf("wire of %s: %+v; want plain pod packets and no tunnel", s.Node, s)
		}
	}
}

func checkRoutes(ctx context.Context, t *testing.T, l *lab.Lab) {
	for _, n := range l.Nodes() {
		err := lab.Eventually(ctx, patience, "kernel and agent agree on "+n.Name, func() error {
			count, err := n.CompareRoutes(ctx)
			if err == nil && count < len(l.Nodes()) {
				err = fmt.Errorf("%d routes, want at least one per node", count)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// checkKill kills one agent while packets flow from pod a to pod b, starts it
// again, and wants every packet.
func checkKill(ctx context.Context, t *testing.T, l *lab.Lab, victim *lab.Node, a, b *lab.Pod) {
	flow, err := lab.StartPingFlow(a.NS, b.NS, b.Addr(), 500)
	must(t, err)
	stream, err := lab.StartStream(ctx, a.NS, b.NS, b.Addr())
	must(t, err)
	step := func(name string, err error) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	step("flow before", flow.WaitFor(ctx, 300))
	step("kill", victim.Kill())
	step("flow without the agent", flow.WaitFor(ctx, 1000))
	step("start", victim.Start(ctx))
	step("ready", victim.WaitReady(ctx))
	step("converged", l.WaitConverged(ctx))
	step("flow after", flow.WaitFor(ctx, 500))
	bytes, err := stream.Stop()
	if err != nil || bytes == 0 {
		t.Errorf("stream: %d bytes, %v", bytes, err)
	}
	report, err := flow.Stop(ctx)
	if err != nil || report.Lost > 0 || report.Duplicates > 0 {
		t.Errorf("flow: %s, %v; want nothing lost", report, err)
	}
	t.Logf("flow: %s; stream: %d bytes", report, bytes)
	checkRoutes(ctx, t, l)
}

func checkDeleted(ctx context.Context, t *testing.T, l *lab.Lab) {
	for _, p := range l.Pods() {
		must(t, p.Check(ctx))
		must(t, p.Attach(ctx)) // a repeated ADD changes nothing
		must(t, p.Detach(ctx))
		must(t, p.Delete(ctx)) // the second DEL
	}
	for _, n := range l.Workers() {
		if err := n.WaitClean(ctx); err != nil {
			t.Error(err)
		}
	}
}

// podOf returns the first pod of a node.
func podOf(l *lab.Lab, node string) *lab.Pod {
	for _, p := range l.Pods() {
		if p.Node.Name == node {
			return p
		}
	}
	panic("no pod on " + node)
}
