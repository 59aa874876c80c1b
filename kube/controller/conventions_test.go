package controller

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// TestConventions: the metrics follow Prometheus's conventions.
func TestConventions(t *testing.T) {
	t.Parallel()
	m := newMetrics("v1")
	m.errors.WithLabelValues("status").Inc()
	m.watchErrors.WithLabelValues("Node").Inc()
	m.services.WithLabelValues("complete").Set(1)
	if !m.alarm("config_absent", true) || m.alarm("config_absent", true) {
		t.Error("an alarm is new once")
	}
	got, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) < len(Metrics()) {
		t.Errorf("%d metrics were scraped, the reference has %d", len(got), len(Metrics()))
	}
	problems, err := promlint.NewWithMetricFamilies(got).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
