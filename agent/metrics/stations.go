package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"onlink/bgp/bmp"
	"onlink/internal/metric"
)

// stationMetrics are the metrics of monitoring stations.
type stationMetrics struct {
	up, since, connections, overflows, messages, bytes, waiting *prometheus.Desc
}

func newStationMetrics(c *catalogue) stationMetrics {
	station := metric.Label{Name: "station", Values: "names of monitoring stations, at most four"}
	return stationMetrics{
		up:          c.gauge("bmp_station_up", "1 when there is a connection to the monitoring station.", station),
		since:       c.gauge("bmp_station_last_change_timestamp_seconds", "When the connection was made, or lost, or the station added. In Unix time.", station),
		connections: c.counter("bmp_connections_total", "Connections made to the monitoring station.", station),
		overflows:   c.counter("bmp_overflows_total", "Connections closed because the collector reads more slowly than routes change; all routes are sent anew after each.", station),
		messages:    c.counter("bmp_sent_messages_total", "Messages sent to the monitoring station.", station),
		bytes:       c.counter("bmp_sent_bytes_total", "Bytes sent to the monitoring station.", station),
		waiting:     c.gauge("bmp_changes_waiting", "Changed prefixes that wait until the collector has read those before.", station),
	}
}

func (m *stationMetrics) collect(list []bmp.Status, out sink) {
	for i := range list {
		s := &list[i]
		out.gauge(m.up, one(s.Connected), s.Name)
		out.gauge(m.since, float64(s.Since.UnixMilli())/1000, s.Name)
		out.counter(m.connections, float64(s.Connections), s.Name)
		out.counter(m.overflows, float64(s.Overflows), s.Name)
		out.counter(m.messages, float64(s.Messages), s.Name)
		out.counter(m.bytes, float64(s.Bytes), s.Name)
		out.gauge(m.waiting, float64(s.Waiting), s.Name)
	}
}
