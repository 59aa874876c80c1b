package metric

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestUnit: the unit is the end of the name, without that of a counter.
func TestUnit(t *testing.T) {
	for name, want := range map[string]string{
		"onlink_pod_mtu_bytes": "bytes", "onlink_x_seconds": "seconds", "onlink_x_seconds_total": "seconds",
		"onlink_pool_claimed_ratio": "ratio", "onlink_drift_total": "", "onlink_seconds_of_x": "",
	} {
		if got := (&Family{Name: name}).Unit(); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestCatalogue: what a catalogue makes can be scraped, and is listed by name, with its
// type.
func TestCatalogue(t *testing.T) {
	var c Catalogue
	label := Label{Name: "kind", Values: "a, b"}
	counters, gauges := c.NewCounters("x_total", "X.", label), c.NewGauges("w", "W.", label)
	reg := prometheus.NewRegistry()
	reg.MustRegister(counters, gauges, c.NewGauge("g", "G."), c.NewGaugeFunc("f", "F.", func() float64 { return 2 }), c.NewCounter("c_total", "C."),
		c.NewCounterFunc("d_total", "D.", func() float64 { return 3 }), c.NewHistogram("h_seconds", "H.", []float64{1}), c.NewBuild("build_info", "v1"))
	counters.WithLabelValues("a").Inc()
	gauges.WithLabelValues("b").Set(1)
	got, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]Kind{"COUNTER": Counter, "GAUGE": Gauge, "HISTOGRAM": Histogram}
	var names []string
	for i, f := range c.Families() {
		names = append(names, f.Name)
		if f.Name != got[i].GetName() || f.Kind != kinds[got[i].GetType().String()] || f.Help != got[i].GetHelp() {
			t.Errorf("listed %+v, scraped %v", f, got[i])
		}
		if n := len(got[i].GetMetric()[0].GetLabel()); n != len(f.Labels) {
			t.Errorf("%s has %d labels, want %v", f.Name, n, f.LabelNames())
		}
	}
	if want := []string{"build_info", "c_total", "d_total", "f", "g", "h_seconds", "w", "x_total"}; !slices.Equal(names, want) {
		t.Errorf("listed %v, want %v", names, want)
	}
}
