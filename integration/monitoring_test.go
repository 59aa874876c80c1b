package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestMonitoring: the metrics of running agents follow Prometheus's conventions.
func TestMonitoring(t *testing.T) {
	ctx, l := labtest.Start(t, labtest.InRack("monitoring"))
	for _, n := range l.Nodes() {
		must(t, lab.Eventually(ctx, labtest.Patience, "routes of other nodes on "+n.Name, func() error {
			body, err := labtest.Metrics(ctx, n)
			if err != nil {
				return err
			}
			return lacks(body, "onlink_convergence_seconds_bucket{le=\"+Inf\"} ", "onlink_ipam_registry_call_duration_seconds_count{call=", "onlink_bgp_peer_state{")
		}))
		body, err := labtest.Metrics(ctx, n)
		must(t, err)
		problems, err := promlint.New(strings.NewReader(body)).Lint()
		must(t, err)
		for _, p := range problems {
			t.Errorf("%s: %s: %s", n.Name, p.Metric, p.Text)
		}
	}
}

// lacks returns an error that names the first of the texts that body does not have.
func lacks(body string, texts ...string) error {
	for _, text := range texts {
		if !strings.Contains(body, text) {
			return fmt.Errorf("the metrics lack %s", text)
		}
	}
	return nil
}
