// Package metric describes metrics of Prometheus: each is defined once, with its
// meaning, and the same definition makes what is scraped and the reference
// (docs/reference/metrics.md).
package metric

import (
	"cmp"
	"runtime"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Kind is the type of a metric, as Prometheus names it.
type Kind string

// The kinds of metrics that onlink has.
const (
	Gauge     Kind = "gauge"
	Counter   Kind = "counter"
	Histogram Kind = "histogram"
)

// Label is a label of a metric, and what bounds its values: a label without a bound
// can fill the memory of a Prometheus.
type Label struct{ Name, Values string }

// Family describes one metric.
type Family struct {
	Name   string // with the prefix onlink_
	Kind   Kind
	Help   string
	Labels []Label
}

// Unit returns the base unit that the name ends with; "" for a count, a share or a truth.
func (f *Family) Unit() string {
	name := strings.TrimSuffix(f.Name, "_total")
	for _, unit := range []string{"seconds", "bytes", "ratio"} {
		if strings.HasSuffix(name, "_"+unit) {
			return unit
		}
	}
	return ""
}

// LabelNames returns the names of the labels, in the order of their values.
func (f *Family) LabelNames() []string {
	out := make([]string, len(f.Labels))
	for i, l := range f.Labels {
		out[i] = l.Name
	}
	return out
}

// Catalogue is a list of the metrics of one process. The zero Catalogue is empty.
type Catalogue struct{ list []Family }

// Families returns the metrics in the order of their names.
func (c *Catalogue) Families() []Family {
	out := slices.Clone(c.list)
	slices.SortFunc(out, func(a, b Family) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Add adds a metric and returns its description for a collector.
func (c *Catalogue) Add(kind Kind, name, help string, labels ...Label) *prometheus.Desc {
	f := Family{Name: name, Kind: kind, Help: help, Labels: labels}
	c.list = append(c.list, f)
	return prometheus.NewDesc(f.Name, f.Help, f.LabelNames(), nil)
}

// NewGauge returns a gauge that the process sets.
func (c *Catalogue) NewGauge(name, help string) prometheus.Gauge {
	c.Add(Gauge, name, help)
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

// NewGauges returns a gauge for each value of the labels.
func (c *Catalogue) NewGauges(name, help string, labels ...Label) *prometheus.GaugeVec {
	c.Add(Gauge, name, help, labels...)
	f := Family{Labels: labels}
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, f.LabelNames())
}

// NewGaugeFunc returns a gauge that is read when it is scraped.
func (c *Catalogue) NewGaugeFunc(name, help string, read func() float64) prometheus.GaugeFunc {
	c.Add(Gauge, name, help)
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read)
}

// NewCounter returns a counter that the process adds to.
func (c *Catalogue) NewCounter(name, help string) prometheus.Counter {
	c.Add(Counter, name, help)
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

// NewCounters returns a counter for each value of the labels.
func (c *Catalogue) NewCounters(name, help string, labels ...Label) *prometheus.CounterVec {
	c.Add(Counter, name, help, labels...)
	f := Family{Labels: labels}
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, f.LabelNames())
}

// NewCounterFunc returns a counter that is read when it is scraped.
func (c *Catalogue) NewCounterFunc(name, help string, read func() float64) prometheus.CounterFunc {
	c.Add(Counter, name, help)
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, read)
}

// NewHistogram returns a histogram with these upper bounds of its buckets.
func (c *Catalogue) NewHistogram(name, help string, buckets []float64) prometheus.Histogram {
	c.Add(Histogram, name, help)
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
}

// Build is the label of build information that every process has.
var Build = []Label{{Name: "version", Values: "one: that of the process"}, {Name: "goversion", Values: "one: the release of Go that built it"}}

// NewBuild returns the build information of a process, a gauge that is always 1.
func (c *Catalogue) NewBuild(name, version string) prometheus.Gauge {
	const help = "1; the labels say which build the process is."
	c.Add(Gauge, name, help, Build...)
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: name, Help: help, ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	g.Set(1)
	return g
}
