package node

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"onlink/internal/metric"
)

// TestConventions: the metrics follow Prometheus's conventions.
func TestConventions(t *testing.T) {
	t.Parallel()
	m := newMeter("v1")
	for _, f := range Metrics() { // those that others read: with figures of this test
		if f.Kind == metric.Histogram || !strings.HasPrefix(f.Name, "onlink_kube_") || registered(m, f.Name) {
			continue
		}
		m.add(f.Name, f.Help, f.Kind == metric.Counter, func() float64 { return 1 })
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

// registered reports whether a metric is there already.
func registered(m *meter, name string) bool {
	got, err := m.registry.Gather()
	return err == nil && slices.ContainsFunc(got, func(f *dto.MetricFamily) bool { return f.GetName() == name })
}
