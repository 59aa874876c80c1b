package integration

import (
	"context"
	"strings"
	"testing"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// checkMetrics reads r1n1's metrics of the learn flow.
func checkMetrics(ctx context.Context, t *testing.T, l *lab.Lab) {
	n := l.Node("r1n1")
	body, err := labtest.Metrics(ctx, n)
	must(t, err)
	for _, want := range []string{
		`onlink_rib_routes{reason="behind-gateway"}`, `onlink_rib_routes{reason="on-link"}`,
		`onlink_rib_hops{way="direct"}`, `onlink_rib_hops{way="onlink-vxlan"}`, `onlink_rib_hops{way="onlink-vxlan6"}`,
		`onlink_rib_next_hops{reach="gateway"}`, `onlink_fib_writes_total{op="add"}`, "onlink_fib_errors_total 0",
		"onlink_fib_last_resync_seconds", `onlink_feature_available{feature="vxlan6"} 1`, "onlink_pod_mtu_bytes 1430",
		"onlink_rib_nodes 8", // four other nodes, each with two addresses
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "onlink_") {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
}
