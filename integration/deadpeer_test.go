package integration

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestRestartWithDeadPeer: one of three peers is off when an agent restarts.
// That one delays nothing: the live ones' routes are learned and our blocks
// are announced again as if it did not exist.
func TestRestartWithDeadPeer(t *testing.T) {
	t.Parallel()
	ctx, l := labtest.Build(t, labtest.Mesh("dead", 4))
	labtest.StartAll(ctx, t, l)
	n, dead := l.Node("r1n1"), l.Node("r1n4")
	block := labtest.BlockOf(ctx, t, n)
	live := map[*lab.Node]netip.Prefix{}
	for _, other := range []*lab.Node{l.Node("r1n2"), l.Node("r1n3")} {
		live[other] = labtest.BlockOf(ctx, t, other)
	}
	must(t, dead.NS.SetLink("eth0", false))
	for range labtest.Times(1, 5) {
		for _, end := range []struct {
			name string
			stop func() error
		}{{"SIGTERM", n.Stop}, {"SIGKILL", n.Kill}} {
			must(t, end.stop())
			must(t, forget(n)) // as a reboot does: what is there later was learned
			begin := time.Now()
			must(t, n.Start(ctx))
			must(t, lab.Eventually(ctx, 30*time.Second, "the agent's API", func() error {
				_, err := n.Status(ctx)
				return err
			}))
			must(t, lab.Eventually(ctx, 30*time.Second, "routes and announcements after "+end.name, func() error {
				return knows(ctx, t, n, live, block, begin)
			}))
			t.Logf("after %s: routes and announcements %s after the start, one of three peers dead", end.name, time.Since(begin).Round(10*time.Millisecond))
		}
	}
}

// forget removes onlink's routes from a node's kernel.
func forget(n *lab.Node) error {
	routes, err := n.NS.Routes(labtest.RouteProtocol)
	for _, r := range routes {
		err = errors.Join(err, n.NS.DeleteRoute(r.Prefix, labtest.RouteProtocol))
	}
	return err
}

// knows wants the routes of the live nodes from a restarted one, and its block
// announced anew to them: what they kept for it is marked as stale.
func knows(ctx context.Context, t *testing.T, n *lab.Node, live map[*lab.Node]netip.Prefix, block netip.Prefix, begin time.Time) error {
	t.Helper()
	up := labtest.Sessions(ctx, t, n)
	for other, p := range live {
		if up[other.Name].Since.Before(begin) {
			return fmt.Errorf("the session to %s is not up", other.Name)
		}
		if err := labtest.HasRoute(n, p, labtest.RouteProtocol); err != nil {
			return err
		}
		if err := labtest.HasRoute(other, block, labtest.RouteProtocol); err != nil {
			return err
		}
		out, err := other.Ctl(ctx, "explain", block.Addr().String())
		if err != nil {
			return err
		}
		if !strings.Contains(out.Stdout, "next hop "+n.Addr.String()) || strings.Contains(out.Stdout, "stale") {
			return fmt.Errorf("%s says:\n%s", other.Name, out.Stdout)
		}
	}
	return nil
}
