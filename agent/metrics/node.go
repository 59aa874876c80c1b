package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"onlink/agent/drain"
	"onlink/agent/state"
)

// nodeMetrics are the metrics of the node as a whole.
type nodeMetrics struct {
	inSync, drained, feature *prometheus.Desc
}

func newNodeMetrics() nodeMetrics {
	return nodeMetrics{
		inSync:  describe("in_sync", "1 when the routes of a previous run were swept."),
		drained: describe("drained", "1 when the node's prefixes are withdrawn by onlinkctl drain, or about to be."),
		feature: describe("feature_available", "1 when the kernel supports the feature.", "feature"),
	}
}

func (m *nodeMetrics) collect(s *state.Snapshot, out sink) {
	out.gauge(m.inSync, one(s.Routes.InSync))
	out.gauge(m.drained, one(s.Drain != drain.Serving))
	for _, f := range s.Features {
		out.gauge(m.feature, one(f.Available), f.Name)
	}
}
