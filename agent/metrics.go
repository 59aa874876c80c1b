package agent

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"onlink/bgp"
	"onlink/bgp/bfd"
)

// maxPeerSeries bounds the per-peer time series: a reflector with thousands of
// clients would otherwise flood the monitoring (the totals stay exact).
const maxPeerSeries = 100

// collector renders the agent's status as Prometheus metrics at scrape time,
// so that nothing is counted twice.
type collector struct {
	a *agent

	peers, established, routes, tunnelled, unresolved, failed *prometheus.Desc
	blocks, used, total, drift, inSync, feature               *prometheus.Desc
	peerUp, peerFlaps, peerIn, peerOut                        *prometheus.Desc
	bfdUp, bfdDowns, drained                                  *prometheus.Desc
	faults, peerFaults                                        *prometheus.Desc
	peerAccepted, refused                                     *prometheus.Desc

	ipam ipamMetrics
	cni  cniMetrics
}

func newCollector(a *agent) *collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("onlink_"+name, help, labels, nil)
	}
	return &collector{
		a:            a,
		ipam:         newIPAMMetrics(d),
		cni:          newCNIMetrics(d),
		peers:        d("bgp_peers", "Configured and dynamic BGP peers."),
		established:  d("bgp_peers_established", "BGP sessions in state Established."),
		routes:       d("rib_routes_unicast", "Decided routes to other nodes."),
		tunnelled:    d("rib_routes_tunnelled", "Decided routes of which at least one next hop is tunnelled."),
		unresolved:   d("rib_routes_unresolved", "Prefixes without a usable next hop."),
		failed:       d("fib_routes_failed", "Decided routes that the kernel does not hold."),
		blocks:       d("ipam_blocks", "Blocks owned by this node."),
		used:         d("ipam_addresses_used", "Addresses assigned to pods of this node."),
		total:        d("ipam_addresses_total", "Addresses in the blocks of this node."),
		drift:        d("fib_drift_total", "Routes found changed by others and repaired."),
		inSync:       d("in_sync", "1 when the routes of a previous run were swept."),
		feature:      d("feature_available", "1 when the kernel has what the feature needs.", "feature"),
		peerUp:       d("bgp_peer_up", "1 when the session is Established.", "peer", "address"),
		peerFlaps:    d("bgp_peer_flaps_total", "Times the session was lost.", "peer", "address"),
		peerIn:       d("bgp_peer_prefixes_received", "Prefixes received from the peer.", "peer", "address"),
		peerAccepted: d("bgp_peer_prefixes_accepted", "Prefixes of the peer that import accepts.", "peer", "address"),
		refused:      d("bgp_import_refused_total", "Announcements refused whatever policy accepts: pool (inside a pool, and not a block that the peer may announce), owner (another node's block), next-hop. One that is judged again counts again.", "reason"),
		peerOut:      d("bgp_peer_prefixes_advertised", "Prefixes advertised to the peer.", "peer", "address"),
		bfdUp:        d("bfd_up", "1 when the BFD session to the peer is Up.", "peer", "address"),
		bfdDowns:     d("bfd_downs_total", "Times the BFD session to the peer left Up.", "peer", "address"),
		faults:       d("bgp_faults_total", "Messages of any peer that were malformed, by what became of them; panic: a fault of the agent, contained; withheld: a route that no message to a peer could hold.", "kind"),
		peerFaults:   d("bgp_peer_faults_total", "Messages of the peer that were malformed, by what became of them; panic: a fault of the agent, contained; withheld: a route that no message to the peer could hold.", "peer", "address", "kind"),
		drained:      d("drained", "1 when the node's prefixes are withdrawn by onlinkctl drain, or about to be."),
	}
}

// Describe implements prometheus.Collector. It names nothing: what there is
// depends on peers and features, and collecting needs the learn loop, which
// does not run yet when the collector is registered.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	st, err := c.a.status(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.peers, err)
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(c.peers, float64(st.GetPeersTotal()))
	gauge(c.established, float64(st.GetPeersEstablished()))
	gauge(c.routes, float64(st.GetRoutesUnicast()))
	gauge(c.tunnelled, float64(st.GetRoutesTunnelled()))
	gauge(c.unresolved, float64(st.GetRoutesUnresolved()))
	gauge(c.failed, float64(st.GetRoutesFailed()))
	gauge(c.blocks, float64(st.GetBlocks()))
	gauge(c.used, float64(st.GetAddressesUsed()))
	gauge(c.total, float64(st.GetAddressesTotal()))
	gauge(c.inSync, one(st.GetInSync()))
	gauge(c.drained, one(st.GetDrain() != serving.String()))
	ch <- prometheus.MustNewConstMetric(c.drift, prometheus.CounterValue, float64(st.GetFibDrift()))
	for _, f := range st.GetFeatures() {
		gauge(c.feature, one(f.GetAvailable()), f.GetName())
	}
	c.ipam.collect(ctx, c.a, ch)
	c.cni.collect(c.a, ch)
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for reason, n := range c.a.speaker.Refused() {
		counter(c.refused, n, reason)
	}
	eachFault(c.a.speaker.Faults(), func(kind string, n uint64) { counter(c.faults, n, kind) })
	series := 0
	for _, p := range c.a.speaker.Peers() {
		if p.Gone {
			continue
		}
		if series++; series > maxPeerSeries {
			break
		}
		labels := []string{p.Name, p.Address.String()}
		gauge(c.peerUp, one(p.State == established), labels...)
		gauge(c.peerIn, float64(p.Received), labels...)
		gauge(c.peerOut, float64(p.Advertised), labels...)
		gauge(c.peerAccepted, float64(p.Accepted), labels...)
		ch <- prometheus.MustNewConstMetric(c.peerFlaps, prometheus.CounterValue, float64(p.Flaps), labels...)
		eachFault(p.Faults, func(kind string, n uint64) { counter(c.peerFaults, n, append(slices.Clone(labels), kind)...) })
		if live := c.a.live.pulse(p.Address); live.Session.Peer.IsValid() {
			gauge(c.bfdUp, one(live.State == bfd.Up), labels...)
			ch <- prometheus.MustNewConstMetric(c.bfdDowns, prometheus.CounterValue, float64(live.Downs), labels...)
		}
	}
}

// eachFault names the counts of f as the metrics do.
func eachFault(f bgp.Faults, do func(kind string, n uint64)) {
	do("reset", f.Reset)
	do("withdrawn", f.Withdrawn)
	do("discarded", f.Discarded)
	do("ignored", f.Ignored)
	do("panic", f.Panics)
	do("withheld", f.Withheld)
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// metricsHandler serves /metrics, /healthz (the process answers) and /readyz
// (the learn loop turns and the routes are in sync).
func (a *agent) metricsHandler() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(newCollector(a), newRouteCollector(a), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("ok\n")) //nolint:errcheck,gosec // the client may be gone
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		st, err := a.status(ctx)
		switch {
		case err != nil:
			http.Error(w, "learn loop does not answer: "+err.Error(), http.StatusServiceUnavailable)
		case !st.GetInSync():
			http.Error(w, "syncing: waiting for the peers' End-of-RIB", http.StatusServiceUnavailable)
		default:
			w.Write([]byte("ready\n")) //nolint:errcheck,gosec // the client may be gone
		}
	})
	return mux
}
