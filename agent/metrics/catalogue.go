package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"onlink/internal/histogram"
	"onlink/internal/metric"
)

// The bounds of series of labels that grow with a cluster or a file. The totals stay
// exact.
const (
	// maxPeerSeries bounds the peers: a reflector with thousands of clients would
	// otherwise flood the monitoring.
	maxPeerSeries = 100
	// maxListSeries bounds pools, owners of announcements, and certificates: an
	// authority's file may have hundreds.
	maxListSeries = 100
)

// Labels that several metrics have.
var (
	peerLabels = []metric.Label{{Name: "peer", Values: "names of peers, the first 100"}, {Name: "address", Values: "one for each peer"}}
	poolLabel  = metric.Label{Name: "pool", Values: "names of pools, the first 100"}
	ownerLabel = metric.Label{Name: "owner", Values: "owners of announcements, the first 100"}
	faultLabel = among("kind", "reset, withdrawn, discarded, ignored, panic, withheld")
)

// among is a label with these values alone.
func among(name, values string) metric.Label { return metric.Label{Name: name, Values: values} }

// catalogue defines the agent's metrics.
type catalogue struct{ metric.Catalogue }

func (c *catalogue) gauge(name, help string, labels ...metric.Label) *prometheus.Desc {
	return c.Add(metric.Gauge, "onlink_"+name, help, labels...)
}

func (c *catalogue) counter(name, help string, labels ...metric.Label) *prometheus.Desc {
	return c.Add(metric.Counter, "onlink_"+name, help, labels...)
}

func (c *catalogue) histogram(name, help string, labels ...metric.Label) *prometheus.Desc {
	return c.Add(metric.Histogram, "onlink_"+name, help, labels...)
}

// Families returns the agent's metrics, for the reference of the documentation.
func Families() []metric.Family {
	var c catalogue
	newCollector(&c, nil, nil)
	return c.Families()
}

// sink takes the metrics of one scrape.
type sink chan<- prometheus.Metric

func (s sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s sink) counter(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func (s sink) histogram(d *prometheus.Desc, h *histogram.Histogram, labels ...string) {
	s <- prometheus.MustNewConstHistogram(d, h.Count, h.Sum.Seconds(), h.Cumulative(), labels...)
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
