package metrics

import "github.com/prometheus/client_golang/prometheus"

// sink takes the metrics of one scrape.
type sink chan<- prometheus.Metric

func (s sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s sink) counter(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

// describe makes descriptions of metrics of onlink.
func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("onlink_"+name, help, labels, nil)
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
