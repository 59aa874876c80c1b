// Package metrics serves the agent's monitoring endpoints: /metrics for
// Prometheus, /healthz and /readyz. All of it comes from the snapshots of
// package state, and from the kernel's counts of dropped packets: a scrape calls no
// other room, and concurrent scrapes share one snapshot.
package metrics

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"onlink/agent/state"
)

const (
	// shared is how old a snapshot may be that a scrape shows.
	shared = time.Second
	// scrapeWait bounds how long a scrape waits for a snapshot.
	scrapeWait = 5 * time.Second
	// turnBound is how long ago the learn loop may have turned last: it does
	// every two seconds when nothing happens.
	turnBound = 10 * time.Second
)

// Source is where snapshots come from: a [state.Board].
type Source interface {
	// Since returns a snapshot that was begun at t or later.
	Since(ctx context.Context, t time.Time) (*state.Snapshot, error)
	// Turn returns the latest turn of the learn loop.
	Turn() state.Turn
}

// Drops returns the kernel's counts of dropped packets. It is called at a scrape alone,
// because they are read from the kernel.
type Drops func() state.Drops

// Handler serves /metrics, /healthz (the process answers) and /readyz (the
// learn loop turns and the routes are in sync).
func Handler(src Source, drops Drops) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(newCollector(&catalogue{}, src, drops), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("ok\n")) //nolint:errcheck,gosec // the client may be gone
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := unready(src.Turn(), time.Now()); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte("ready\n")) //nolint:errcheck,gosec // the client may be gone
	})
	return mux
}

// unready returns why the node is not ready; "" when it is.
func unready(last state.Turn, now time.Time) string {
	switch age := now.Sub(last.At); {
	case last.At.IsZero():
		return "starting: the learn loop has not finished its first turn"
	case age > turnBound:
		return "learn loop does not answer: its last turn was " + age.Truncate(time.Second).String() + " ago"
	case !last.InSync:
		return "syncing: waiting for the peers' End-of-RIB"
	}
	return ""
}

// collector renders a snapshot as Prometheus metrics at scrape time, so that
// nothing is counted twice.
type collector struct {
	src    Source
	counts Drops
	node   nodeMetrics
	peers  peerMetrics
	bmp    stationMetrics
	routes routeMetrics
	ipam   ipamMetrics
	cni    cniMetrics
	drops  dropMetrics
}

func newCollector(c *catalogue, src Source, drops Drops) *collector {
	return &collector{
		src: src, counts: drops, node: newNodeMetrics(c), peers: newPeerMetrics(c), bmp: newStationMetrics(c), routes: newRouteMetrics(c),
		ipam: newIPAMMetrics(c), cni: newCNIMetrics(c), drops: newDropMetrics(c),
	}
}

// Describe implements prometheus.Collector. It names nothing: which metrics
// there are depends on peers and features.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeWait)
	defer cancel()
	s, err := c.src.Since(ctx, time.Now().Add(-shared))
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.node.inSync, err)
		return
	}
	out := sink(ch)
	c.node.collect(s, out)
	c.peers.collect(&s.Sessions, out)
	c.bmp.collect(s.Stations, out)
	c.routes.collect(&s.Routes, out)
	c.ipam.collect(s, out)
	c.cni.collect(s.CNI, out)
	c.drops.collect(c.counts(), out)
}
