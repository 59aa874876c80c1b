package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"onlink/agent/state"
	"onlink/internal/metric"
)

// dropMetrics are the packets that this node dropped on purpose, or that its tunnel
// devices lost.
type dropMetrics struct{ rules, lost, failed *prometheus.Desc }

func newDropMetrics(c *catalogue) dropMetrics {
	device := []metric.Label{among("device", "onlink's tunnel devices: at most four"), among("direction", "sent, received")}
	return dropMetrics{
		rules: c.counter("dropped_packets_total", "Packets that rules of the tables inet onlink and inet onlink-pods dropped. guard: tunnelled packets that no known node sent, or that a pod built; address, mac: packets of pods with a source that is not theirs; registry: packets of pods to the block registry on this node.",
			among("cause", "guard, address, mac, registry: those that have a rule")),
		lost:   c.counter("tunnel_dropped_packets_total", "Packets that a tunnel device dropped since it was made.", device...),
		failed: c.counter("tunnel_error_packets_total", "Packets that a tunnel device could not wrap, send or unwrap since it was made: no route or entry to the far node, a malformed packet.", device...),
	}
}

func (m *dropMetrics) collect(d state.Drops, out sink) {
	for cause, n := range d.Rules {
		out.counter(m.rules, float64(n), cause)
	}
	for _, t := range d.Tunnels {
		out.counter(m.lost, float64(t.Dropped), t.Device, t.Direction)
		out.counter(m.failed, float64(t.Errors), t.Device, t.Direction)
	}
}
