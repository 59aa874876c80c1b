package agent

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"onlink/fib"
	"onlink/rib"
)

// routeCollector renders what the learn flow decided and wrote. Every label is
// one of a fixed set, so the number of series does not grow with the cluster.
type routeCollector struct {
	a *agent

	reasons, reach, ways, nodes           *prometheus.Desc
	desired, objects, stale               *prometheus.Desc
	writes, errors, resyncs, resyncLength *prometheus.Desc
	podMTU                                *prometheus.Desc
}

func newRouteCollector(a *agent) *routeCollector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("onlink_"+name, help, labels, nil)
	}
	return &routeCollector{
		a:            a,
		reasons:      d("rib_routes", "Prefixes by the reason of their decision.", "reason"),
		reach:        d("rib_next_hops", "BGP next hops and peers by how the kernel reaches them.", "reach"),
		ways:         d("rib_hops", "Members of routes to other nodes: direct, or by tunnel device.", "way"),
		nodes:        d("rib_nodes", "Other nodes: next hops of routes into a pool."),
		desired:      d("fib_routes_desired", "Routes that the kernel shall hold."),
		objects:      d("fib_nexthop_objects", "Nexthop objects of onlink in the kernel."),
		stale:        d("fib_routes_stale", "Routes of a previous run that wait for the sweep."),
		writes:       d("fib_writes_total", "Changes written to the kernel: add, change and delete a route, move many with one object, object, delete-object.", "op"),
		errors:       d("fib_errors_total", "Refusals of the kernel, attempts at the same route counted each."),
		resyncs:      d("fib_resyncs_total", "Full comparisons with the kernel."),
		resyncLength: d("fib_last_resync_seconds", "How long the latest full comparison took."),
		podMTU:       d("pod_mtu_bytes", "MTU of pod interfaces; 0 when not known yet."),
	}
}

// Describe implements prometheus.Collector; see collector.Describe.
func (c *routeCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *routeCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var (
		counts rib.Counts
		stats  fib.Stats
		nodes  int
	)
	l := c.a.learn
	err := l.do(ctx, func() { counts, stats, nodes = l.table.Counts(), l.fib.Stats(), len(l.nodes.list) })
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.reasons, err)
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for reason, n := range counts.ByReason {
		gauge(c.reasons, float64(n), reason.String())
	}
	for kind, n := range counts.ByReach {
		gauge(c.reach, float64(n), kind.String())
	}
	for way, n := range counts.ByWay {
		gauge(c.ways, float64(n), way)
	}
	gauge(c.nodes, float64(nodes))
	gauge(c.desired, float64(stats.Desired))
	gauge(c.objects, float64(stats.Nexthops))
	gauge(c.stale, float64(stats.Stale))
	for op, n := range map[string]uint64{
		"add": stats.Added, "change": stats.Changed, "delete": stats.Deleted, "move": stats.Moved,
		"object": stats.Objects, "delete-object": stats.ObjectsDeleted,
	} {
		counter(c.writes, n, op)
	}
	counter(c.errors, stats.Errors)
	counter(c.resyncs, stats.Resyncs)
	gauge(c.resyncLength, stats.LastResync.Seconds())
	gauge(c.podMTU, float64(c.a.podMTU()))
}
