package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"onlink/agent/state"
	"onlink/rib"
)

// routeMetrics are the metrics of the learn flow's decisions and writes. Every
// label is one of a fixed set, so the number of series does not grow with the
// cluster.
type routeMetrics struct {
	unicast, tunnelled, unresolved, failed *prometheus.Desc
	reasons, reach, ways, nodes            *prometheus.Desc
	desired, objects, stale, drift         *prometheus.Desc
	writes, errors, resyncs, resyncLength  *prometheus.Desc
	podMTU, converged                      *prometheus.Desc
}

func newRouteMetrics(c *catalogue) routeMetrics {
	return routeMetrics{
		unicast:      c.gauge("rib_routes_unicast", "Decided routes to other nodes."),
		tunnelled:    c.gauge("rib_routes_tunnelled", "Decided routes with at least one tunnelled next hop."),
		unresolved:   c.gauge("rib_routes_unresolved", "Prefixes without a usable next hop."),
		failed:       c.gauge("fib_routes_failed", "Decided routes that the kernel does not hold."),
		reasons:      c.gauge("rib_routes", "Prefixes by the reason of their decision.", among("reason", "those of onlinkctl routes")),
		reach:        c.gauge("rib_next_hops", "BGP next hops and peers by how the kernel reaches them.", among("reach", "how the kernel reaches it, such as on-link, gateway, unreachable, dead")),
		ways:         c.gauge("rib_hops", "Members of routes to other nodes: direct, or by tunnel device.", among("way", "direct, or a tunnel device")),
		nodes:        c.gauge("rib_nodes", "Other nodes: next hops of routes into a pool."),
		desired:      c.gauge("fib_routes_desired", "Decided routes that onlink installs in the kernel."),
		objects:      c.gauge("fib_nexthop_objects", "Nexthop objects of onlink in the kernel."),
		stale:        c.gauge("fib_routes_stale", "Routes of a previous run that await the sweep."),
		drift:        c.counter("fib_drift_total", "Routes found changed by others and repaired."),
		writes:       c.counter("fib_writes_total", "Changes written to the kernel: add, change and delete a route, move many with one object, object, delete-object.", among("op", "add, change, delete, move, object, delete-object")),
		errors:       c.counter("fib_errors_total", "Writes that the kernel rejected; each attempt counts."),
		resyncs:      c.counter("fib_resyncs_total", "Full comparisons with the kernel."),
		resyncLength: c.gauge("fib_last_resync_seconds", "Duration of the last full comparison, in seconds."),
		converged:    c.histogram("convergence_seconds", "Time from a change of best paths in the BGP engine to the kernel's confirmation of the route, once for each route written. Changes that are written together count with the time of the oldest."),
		podMTU:       c.gauge("pod_mtu_bytes", "MTU of pod interfaces; 0 before it is known."),
	}
}

func (m *routeMetrics) collect(r *state.Routes, out sink) {
	out.gauge(m.unicast, float64(r.Counts.ByKind[rib.Unicast]))
	out.gauge(m.tunnelled, float64(r.Counts.Tunnelled))
	out.gauge(m.unresolved, float64(r.Counts.ByKind[rib.Unresolved]))
	out.gauge(m.failed, float64(len(r.Failed)))
	for reason, n := range r.Counts.ByReason {
		out.gauge(m.reasons, float64(n), reason.String())
	}
	for kind, n := range r.Counts.ByReach {
		out.gauge(m.reach, float64(n), kind.String())
	}
	for way, n := range r.Counts.ByWay {
		out.gauge(m.ways, float64(n), way)
	}
	out.gauge(m.nodes, float64(r.Nodes))
	f := r.FIB
	out.gauge(m.desired, float64(f.Desired))
	out.gauge(m.objects, float64(f.Nexthops))
	out.gauge(m.stale, float64(f.Stale))
	out.counter(m.drift, float64(f.Drift))
	for op, n := range map[string]uint64{
		"add": f.Added, "change": f.Changed, "delete": f.Deleted, "move": f.Moved,
		"object": f.Objects, "delete-object": f.ObjectsDeleted,
	} {
		out.counter(m.writes, float64(n), op)
	}
	out.counter(m.errors, float64(f.Errors))
	out.counter(m.resyncs, float64(f.Resyncs))
	out.gauge(m.resyncLength, f.LastResync.Seconds())
	out.histogram(m.converged, &r.Converged)
	out.gauge(m.podMTU, float64(r.PodMTU))
}
