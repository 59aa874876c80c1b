package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// checkRouteBack deletes a node's route to another node's block by hand.
func checkRouteBack(ctx context.Context, t *testing.T, l *lab.Lab, n, far *lab.Node) {
	block := labtest.BlockOf(ctx, t, far)
	must(t, n.NS.DeleteRoute(block, labtest.RouteProtocol))
	must(t, lab.Eventually(ctx, labtest.Back, "route to "+block.String()+" comes back", func() error {
		return labtest.HasRoute(n, block, labtest.RouteProtocol)
	}))
	labtest.CheckRoutes(ctx, t, l)
}

// checkDeviceBack deletes a tunnel device by hand; its routes go with it.
func checkDeviceBack(ctx context.Context, t *testing.T, l *lab.Lab) {
	n, a, b := l.Node("r1n1"), labtest.PodOf(l, "r1n1"), labtest.PodOf(l, "r2n1")
	must(t, n.NS.DeleteLink("onlink-ipip"))
	must(t, lab.Eventually(ctx, labtest.Back, "tunnel of "+n.Name+" comes back", func() error {
		if _, err := n.NS.Link.LinkByName("onlink-ipip"); err != nil {
			return err
		}
		_, err := a.NS.Ping(ctx, b.Addr(), 1, 3*time.Second)
		return err
	}))
	labtest.CheckRoutes(ctx, t, l)
}

// checkForeign puts another program's route in the place of a learned one: it
// must stay, also over a restart, and be reported; when it goes, onlink's
// comes back.
func checkForeign(ctx context.Context, t *testing.T, l *lab.Lab, n, far *lab.Node) {
	block, gateway := labtest.BlockOf(ctx, t, far), l.ToRs()[0].Addr
	must(t, n.NS.ReplaceRoute(block, gateway, unix.RTPROT_STATIC))
	reported := func() error {
		routes, err := n.Routes(ctx)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.GetPrefix() == block.String() && !r.GetInstalled() && r.GetError() != "" {
				t.Logf("reported as: %s", r.GetError())
				return nil
			}
		}
		return fmt.Errorf("%s is not reported as refused", block)
	}
	must(t, lab.Eventually(ctx, labtest.Patience, "the foreign route is reported", reported))
	must(t, labtest.HasRoute(n, block, unix.RTPROT_STATIC))
	must(t, n.Stop())
	must(t, labtest.HasRoute(n, block, unix.RTPROT_STATIC))
	labtest.StartNode(ctx, t, n)
	must(t, lab.Eventually(ctx, labtest.Patience, "the foreign route is reported after a restart", reported))
	must(t, labtest.HasRoute(n, block, unix.RTPROT_STATIC))
	status, err := n.Status(ctx)
	must(t, err)
	if status.GetRoutesFailed() == 0 {
		t.Error("status counts no failed route")
	}
	must(t, n.NS.DeleteRoute(block, unix.RTPROT_STATIC))
	must(t, lab.Eventually(ctx, labtest.Back, "onlink's route takes the free place", func() error {
		return labtest.HasRoute(n, block, labtest.RouteProtocol)
	}))
	must(t, l.WaitConverged(ctx))
	labtest.CheckRoutes(ctx, t, l)
}

// checkCLI runs onlinkctl as an operator does.
func checkCLI(ctx context.Context, t *testing.T, l *lab.Lab) {
	n, far := l.Node("r1n1"), labtest.PodOf(l, "r1n2")
	tests := []struct {
		name string
		args []string
		want []string
		code int
	}{
		{"status", []string{"status"}, []string{n.Name, n.Addr.String(), "ready"}, 0},
		{"peers", []string{"peers"}, []string{"rr1", "tor1", "Established"}, 0},
		{"routes", []string{"routes"}, []string{"blackhole", "on-link", "own-block", "pod"}, 0},
		{"blocks", []string{"blocks"}, []string{labtest.BlockOf(ctx, t, n).String()}, 0},
		{"all blocks", []string{"blocks", "--all"}, []string{labtest.BlockOf(ctx, t, far.Node).String()}, 0},
		{"pools", []string{"pools"}, []string{"10.244.0.0/16"}, 0},
		{"addresses", []string{"ipam", "show"}, []string{labtest.PodOf(l, "r1n1").Addr().String()}, 0},
		{"explain a pod", []string{"explain", far.Addr().String()}, []string{"r1n2"}, 0},
		{"explain nobody", []string{"explain", "10.244.255.250"}, nil, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := n.Ctl(ctx, tt.args...)
			must(t, err)
			if out.Code != tt.code {
				t.Errorf("exit code %d, want %d\n%s%s", out.Code, tt.code, out.Stdout, out.Stderr)
			}
			for _, w := range tt.want {
				if !strings.Contains(out.Stdout, w) {
					t.Errorf("output lacks %q:\n%s", w, out.Stdout)
				}
			}
		})
	}
	t.Run("json", func(t *testing.T) {
		out, err := n.Ctl(ctx, "routes", "-o", "json")
		must(t, err)
		if !json.Valid([]byte(out.Stdout)) || !strings.Contains(out.Stdout, far.Addr().String()[:6]) {
			t.Errorf("not JSON with routes:\n%s", out.Stdout)
		}
	})
}
