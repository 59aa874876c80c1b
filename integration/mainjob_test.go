package integration

import (
	"context"
	"testing"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestTwoRacks is the main job: two racks, real ToRs, pods that reach each
// other directly inside a rack and through ipip across.
func TestTwoRacks(t *testing.T) {
	labtest.NeedIPIP(t)
	ctx, l := labtest.Start(t, lab.Spec{Name: "racks"})
	t.Run("everything reaches every pod", func(t *testing.T) { labtest.CheckReach(ctx, t, l, 56, true) })
	t.Run("kernels hold the decided routes", func(t *testing.T) { labtest.CheckRoutes(ctx, t, l) })
	t.Run("a killed agent loses no packet", func(t *testing.T) {
		labtest.CheckKill(ctx, t, l, l.Node("r1n1"), labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r2n1"))
	})
	t.Run("a killed reflector loses no packet", func(t *testing.T) {
		labtest.CheckKill(ctx, t, l, l.Node("rr1"), labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r2n1"))
	})
	t.Run("a deleted tunnel device comes back", func(t *testing.T) { checkDeviceBack(ctx, t, l) })
	t.Run("a deleted route comes back", func(t *testing.T) { checkRouteBack(ctx, t, l, l.Node("r1n1"), l.Node("r2n1")) })
	t.Run("a foreign route is left alone", func(t *testing.T) { checkForeign(ctx, t, l, l.Node("r1n1"), l.Node("r2n1")) })
	t.Run("deleted pods leave nothing", func(t *testing.T) { checkDeleted(ctx, t, l) })
}

// TestOneRack is the part of the main job that needs no tunnel.
func TestOneRack(t *testing.T) {
	ctx, l := labtest.Start(t, labtest.InRack("rack"))
	t.Run("everything reaches every pod", func(t *testing.T) { labtest.CheckReach(ctx, t, l, 12, false) })
	t.Run("kernels hold the decided routes", func(t *testing.T) { labtest.CheckRoutes(ctx, t, l) })
	t.Run("the CLI tells", func(t *testing.T) { checkCLI(ctx, t, l) })
	t.Run("a killed agent loses no packet", func(t *testing.T) {
		labtest.CheckKill(ctx, t, l, l.Node("r1n1"), labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r1n2"))
	})
	t.Run("a deleted route comes back", func(t *testing.T) { checkRouteBack(ctx, t, l, l.Node("r1n1"), l.Node("r1n2")) })
	t.Run("a foreign route is left alone", func(t *testing.T) { checkForeign(ctx, t, l, l.Node("r1n1"), l.Node("r1n2")) })
	t.Run("deleted pods leave nothing", func(t *testing.T) { checkDeleted(ctx, t, l) })
}

// TestToRs is the reach of the main job with every routing program that is
// installed here; FRR is optional.
func TestToRs(t *testing.T) {
	labtest.NeedIPIP(t)
	for _, kind := range lab.ToRKinds() {
		t.Run(string(kind), func(t *testing.T) {
			ctx, l := labtest.Start(t, lab.Spec{Name: string(kind), ToR: kind, NodesPerRack: 1})
			labtest.CheckRoutes(ctx, t, l)
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
