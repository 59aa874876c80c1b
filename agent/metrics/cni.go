package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"onlink/cni"
)

// cniMetrics are the metrics of the CNI service.
type cniMetrics struct {
	requests, seconds, ending, ended, mended *prometheus.Desc
}

func newCNIMetrics() cniMetrics {
	return cniMetrics{
		requests: describe("cni_requests_total", "Calls of the CNI plugin.", "verb", "result"),
		seconds:  describe("cni_request_seconds_total", "Duration of the calls in the agent, in seconds.", "verb"),
		ending:   describe("cni_pods_ending", "Pods that DEL has disconnected, with an interface still to be removed."),
		ended:    describe("cni_pods_ended_total", "Pods whose interface was removed after DEL."),
		mended:   describe("cni_host_ends_mended_total", "Repairs of host ends of pods that were set down, renamed or moved to another group by another program."),
	}
}

func (m *cniMetrics) collect(s cni.Stats, out sink) {
	for verb, v := range s.Verbs {
		out.counter(m.requests, float64(v.Served), verb, "served")
		out.counter(m.requests, float64(v.Failed), verb, "failed")
		out.counter(m.seconds, v.Time.Seconds(), verb)
	}
	out.gauge(m.ending, float64(s.Ending))
	out.counter(m.ended, float64(s.Ended))
	out.counter(m.mended, float64(s.Mended))
}
