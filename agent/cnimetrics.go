package agent

import (
	"github.com/prometheus/client_golang/prometheus"
)

// cniMetrics are the metrics of the CNI service.
type cniMetrics struct {
	requests, seconds, ending, ended, mended *prometheus.Desc
}

func newCNIMetrics(d func(name, help string, labels ...string) *prometheus.Desc) cniMetrics {
	return cniMetrics{
		requests: d("cni_requests_total", "Calls of the CNI plugin.", "verb", "result"),
		seconds:  d("cni_request_seconds_total", "Seconds that the calls took in the agent.", "verb"),
		ending:   d("cni_pods_ending", "Pods that DEL has disconnected and whose interface is not removed yet."),
		ended:    d("cni_pods_ended_total", "Pods that were removed after their DEL."),
		mended:   d("cni_host_ends_mended_total", "Times that a pod's host end was put right that somebody had set down, renamed or taken out of its group."),
	}
}

// collect sends the metrics as they are now.
func (m *cniMetrics) collect(a *agent, ch chan<- prometheus.Metric) {
	s := a.cni.Stats()
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	for verb, v := range s.Verbs {
		counter(m.requests, float64(v.Served), verb, "served")
		counter(m.requests, float64(v.Failed), verb, "failed")
		counter(m.seconds, v.Time.Seconds(), verb)
	}
	ch <- prometheus.MustNewConstMetric(m.ending, prometheus.GaugeValue, float64(s.Ending))
	counter(m.ended, float64(s.Ended))
	counter(m.mended, float64(s.Mended))
}
