package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// watchNodes lets every node watch the other nodes, not its ToR.
func watchNodes(l *lab.Lab) {
	for _, n := range l.Nodes() {
		n.Edit = func(c *conf.Config) {
			for _, p := range c.BGP.Peers {
				if p.ASN == lab.NodeASN {
					p.BFD = &conf.BFD{Interval: "100ms", Hops: "single"}
				}
			}
		}
	}
}

// TestPeers takes peers of a running mesh away in every way there is and looks
// at what the others do.
func TestPeers(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Mesh("peers", 3))
	watchNodes(l)
	labtest.StartWithPods(ctx, t, l)
	for _, n := range l.Nodes() {
		must(t, labtest.WaitBFD(ctx, n, 2))
	}
	t.Run("disable and enable", func(t *testing.T) { checkDisable(ctx, t, l) })
	t.Run("drain", func(t *testing.T) { checkDrain(ctx, t, l) })
	t.Run("killed agent", func(t *testing.T) { checkKilledBFD(ctx, t, l) })
	t.Run("power cut", func(t *testing.T) { checkPowerCut(ctx, t, l) })
}

// checkDisable: a disabled peer loses its routes here and ours there, is told
// why, and comes back when enabled.
func checkDisable(ctx context.Context, t *testing.T, l *lab.Lab) {
	a, b := l.Node("r1n1"), l.Node("r1n2")
	block := labtest.BlockOf(ctx, t, b)
	_, err := a.Ctl(ctx, "peers", b.Name, "disable", "--reason", "ticket 4711")
	must(t, err)
	must(t, lab.Eventually(ctx, 10*time.Second, "the route of a disabled peer to go", func() error {
		if labtest.HasRoute(a, block, labtest.RouteProtocol) == nil {
			return errors.New("it is still there")
		}
		return nil
	}))
	must(t, lab.Eventually(ctx, 10*time.Second, "the other side to know why", func() error {
		out, err := b.Ctl(ctx, "peers")
		if err == nil && !strings.Contains(out.Stdout, "ticket 4711") {
			err = fmt.Errorf("no reason in:\n%s", out.Stdout)
		}
		return err
	}))
	out, err := a.Ctl(ctx, "peers")
	must(t, err)
	if !strings.Contains(out.Stdout, "held down: ticket 4711") {
		t.Errorf("the disabled peer is not shown as such:\n%s", out.Stdout)
	}
	_, err = a.Ctl(ctx, "peers", b.Addr.String(), "enable")
	must(t, err)
	must(t, l.WaitConverged(ctx))
	_, err = a.Ctl(ctx, "peers", b.Name, "reset", "--reason", "test")
	must(t, err)
	must(t, l.WaitConverged(ctx))
}

// checkDrain: the ToR sees GRACEFUL_SHUTDOWN, then nothing, and nothing after
// a restart either; undrain brings everything back.
func checkDrain(ctx context.Context, t *testing.T, l *lab.Lab) {
	n, tor := l.Node("r1n1"), l.ToRs()[0]
	block := labtest.BlockOf(ctx, t, n)
	seen := func(part string, want bool) {
		t.Helper()
		must(t, lab.Eventually(ctx, 20*time.Second, "the ToR's view of a drained node", func() error {
			text, err := tor.BIRD("show route all for " + block.Addr().String())
			if err != nil && strings.Contains(err.Error(), "Network not found") {
				err = nil
			}
			if err == nil && strings.Contains(text, part) != want {
				err = fmt.Errorf("%q found: %t, in:\n%s", part, !want, text)
			}
			return err
		}))
	}
	seen("via "+n.Addr.String(), true)
	done := make(chan error, 1)
	go func() {
		_, err := n.Ctl(ctx, "drain", "--wait", "8s")
		done <- err
	}()
	seen("(65535,0)", true)
	must(t, <-done)
	seen("via "+n.Addr.String(), false)
	must(t, n.Stop())
	labtest.StartNode(ctx, t, n)
	st, err := n.Status(ctx)
	must(t, err)
	if st.GetDrain() != "drained" {
		t.Errorf("after a restart the node is %q", st.GetDrain())
	}
	seen("via "+n.Addr.String(), false)
	_, err = n.Ctl(ctx, "undrain")
	must(t, err)
	seen("via "+n.Addr.String(), true)
	must(t, l.WaitConverged(ctx))
}

// checkKilledBFD: the agent dies, but the node forwards. Its BFD process says
// AdminDown, and nobody takes its routes away (RFC 5882 sections 3.2 and 4.3).
func checkKilledBFD(ctx context.Context, t *testing.T, l *lab.Lab) {
	a, victim := l.Node("r1n1"), l.Node("r1n3")
	must(t, labtest.WaitBFD(ctx, a, 2))
	block := labtest.BlockOf(ctx, t, victim)
	must(t, victim.Kill())
	must(t, labtest.WaitBFD(ctx, a, 1)) // a has noticed
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); {
		must(t, labtest.HasRoute(a, block, labtest.RouteProtocol))
	}
	labtest.StartNode(ctx, t, victim)
	must(t, labtest.HasRoute(a, block, labtest.RouteProtocol))
	must(t, l.WaitConverged(ctx))
	must(t, labtest.WaitBFD(ctx, a, 2))
}

// checkPowerCut: a node that is cut off loses its routes elsewhere as soon as
// BFD says so, long before any hold time; and gets them back.
func checkPowerCut(ctx context.Context, t *testing.T, l *lab.Lab) {
	a, victim := l.Node("r1n1"), l.Node("r1n2")
	must(t, labtest.WaitBFD(ctx, victim, 2))
	block := labtest.BlockOf(ctx, t, victim)
	must(t, labtest.HasRoute(a, block, labtest.RouteProtocol))
	cut := time.Now()
	must(t, victim.NS.SetLink("eth0", false))
	for labtest.HasRoute(a, block, labtest.RouteProtocol) == nil {
		if time.Since(cut) > 10*time.Second {
			t.Fatal("the routes of a dead node are still there")
		}
	}
	t.Logf("route gone %s after the cut, detection time 300ms", time.Since(cut).Round(time.Millisecond))
	must(t, victim.NS.SetLink("eth0", true))
	must(t, victim.NS.AddRoute(labtest.DefaultRoute, l.ToRs()[0].Addr, 3))
	must(t, l.WaitConverged(ctx))
}
