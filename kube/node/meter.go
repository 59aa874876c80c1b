package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"onlink/internal/metric"
)

// stuck is how long ago the loop may have turned last: it does every 10 s when
// nothing happens, and two calls of the agent may take their whole time.
const stuck = 2 * time.Minute

// meter is the health and the metrics of the process.
type meter struct {
	last     atomic.Int64 // Unix nanoseconds of the loop's last turn
	ready    atomic.Pointer[readiness]
	renders  prometheus.Histogram
	rejected prometheus.Gauge
	sync     prometheus.Gauge
	registry *prometheus.Registry

	catalogue *metric.Catalogue
}

func newMeter(version string) *meter {
	c := &metric.Catalogue{}
	m := &meter{
		catalogue: c,
		renders: c.NewHistogram("onlink_kube_render_seconds", "Time of one rendering of the objects.",
			[]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1}),
		rejected: c.NewGauge("onlink_kube_rejected_objects", "Objects that are left out of this node's configuration."),
		sync:     c.NewGauge("onlink_kube_last_sync_timestamp_seconds", "When the agent last had everything that was rendered, in Unix time."),
		registry: prometheus.NewRegistry(),
	}
	m.registry.MustRegister(c.NewBuild("onlink_kube_build_info", version), m.renders, m.rejected, m.sync,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.turned(time.Now())
	return m
}

// Metrics returns the metrics of the process, for the reference of the documentation.
func Metrics() []metric.Family {
	m := newMeter("")
	m.watch(nil, nil, nil, nil) // nothing is read before a scrape
	return m.catalogue.Families()
}

// add registers what is read when it is scraped.
func (m *meter) add(name, help string, counter bool, read func() float64) {
	if counter {
		m.registry.MustRegister(m.catalogue.NewCounterFunc(name, help, read))
		return
	}
	m.registry.MustRegister(m.catalogue.NewGaugeFunc(name, help, read))
}

func (m *meter) turned(t time.Time)       { m.last.Store(t.UnixNano()) }
func (m *meter) rendered(d time.Duration) { m.renders.Observe(d.Seconds()) }
func (m *meter) rejects(n int)            { m.rejected.Set(float64(n)) }
func (m *meter) synced(t time.Time)       { m.sync.Set(float64(t.Unix())) }
func (m *meter) judged(r readiness)       { m.ready.Store(&r) }

// handler answers /healthz, /readyz and /metrics. An API server or agent that is away is
// no reason to be unhealthy: a restart of this process would not help. Ready is the node,
// as its OnlinkNode says: the agent alone cannot know whether it needs a session.
func (m *meter) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch r := m.ready.Load(); {
		case r == nil:
			http.Error(w, "starting: the Node and the OnlinkNode are not received yet", http.StatusServiceUnavailable)
		case !r.ok:
			http.Error(w, r.reason+": "+r.message, http.StatusServiceUnavailable)
		default:
			w.Write([]byte("ready\n")) //nolint:errcheck,gosec // the client may be gone
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if age := time.Since(time.Unix(0, m.last.Load())); age > stuck {
			http.Error(w, "the loop turned "+age.Truncate(time.Second).String()+" ago", http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte("ok\n")) //nolint:errcheck,gosec // the client may be gone
	})
	return mux
}

// serve serves the handler until ctx ends.
func (m *meter) serve(ctx context.Context, address string) error {
	var lc net.ListenConfig
	lis, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("--health: %w", err)
	}
	server := &http.Server{Handler: m.handler(), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health: %w", err)
	}
	return nil
}
