package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"onlink/cni"
)

// verbs are those of CNI. Their series are there before the first call, because
// Prometheus does not count the calls that come with a series.
var verbs = []string{"ADD", "DEL", "CHECK", "GC", "STATUS"}

// cniMetrics are the metrics of the CNI service.
type cniMetrics struct {
	requests, duration, ending, ended, mended *prometheus.Desc
}

func newCNIMetrics(c *catalogue) cniMetrics {
	verb := among("verb", strings.Join(verbs, ", "))
	return cniMetrics{
		requests: c.counter("cni_requests_total", "Calls of the CNI plugin.", verb, among("result", "served, failed")),
		duration: c.histogram("cni_request_duration_seconds", "Duration of the calls in the agent.", verb),
		ending:   c.gauge("cni_pods_ending", "Pods that DEL has disconnected, with an interface still to be removed."),
		ended:    c.counter("cni_pods_ended_total", "Pods whose interface was removed after DEL."),
		mended:   c.counter("cni_host_ends_mended_total", "Repairs of host ends of pods that were set down, renamed or moved to another group by another program."),
	}
}

func (m *cniMetrics) collect(s cni.Stats, out sink) {
	for _, verb := range verbs {
		v := s.Verbs[verb]
		out.counter(m.requests, float64(v.Served), verb, "served")
		out.counter(m.requests, float64(v.Failed), verb, "failed")
		out.histogram(m.duration, &v.Took, verb)
	}
	out.gauge(m.ending, float64(s.Ending))
	out.counter(m.ended, float64(s.Ended))
	out.counter(m.mended, float64(s.Mended))
}
