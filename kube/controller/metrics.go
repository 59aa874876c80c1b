package controller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"onlink/internal/metric"
)

// metrics are what a replica shows.
type metrics struct {
	registry   *prometheus.Registry
	catalogue  *metric.Catalogue
	leading    prometheus.Gauge
	errors     *prometheus.CounterVec
	alarms     *prometheus.GaugeVec
	freed      prometheus.Counter
	candidates prometheus.Gauge
	services   *prometheus.GaugeVec

	watchErrors *prometheus.CounterVec

	mu sync.Mutex
	on map[string]bool // guarded by mu
}

// alarms are the names of all alarms.
var alarms = []string{"authority_absent", "authority_broken", "config_absent", "nodes_vanished", "witness_mute", "policies_not_enforced", "watch_failed"}

func newMetrics(version string) *metrics {
	c := &metric.Catalogue{}
	m := &metrics{
		registry:   prometheus.NewRegistry(),
		catalogue:  c,
		leading:    c.NewGauge("onlink_controller_leading", "1 while this replica works."),
		errors:     c.NewCounters("onlink_controller_errors_total", "Failed turns of a part.", metric.Label{Name: "part", Values: "parts of the controller"}),
		alarms:     c.NewGauges("onlink_controller_alarm", "1 while a person is needed.", metric.Label{Name: "alarm", Values: strings.Join(alarms, ", ")}),
		freed:      c.NewCounter("onlink_controller_blocks_freed_total", "Blocks of deleted nodes that were freed."),
		candidates: c.NewGauge("onlink_controller_deleted_nodes", "Deleted nodes that still own blocks."),
		services:   c.NewGauges("onlink_controller_services", "Services of type LoadBalancer.", metric.Label{Name: "state", Values: "complete, lacking"}),

		watchErrors: c.NewCounters("onlink_controller_watch_errors_total", "Failed lists and watches of a kind of object.", metric.Label{Name: "kind", Values: "kinds of objects that the controller watches"}),
		on:          map[string]bool{},
	}
	for _, name := range alarms { // a series that is there from the start can be alerted on
		m.alarms.WithLabelValues(name).Set(0)
	}
	m.registry.MustRegister(c.NewBuild("onlink_controller_build_info", version), m.leading, m.errors, m.alarms, m.freed, m.candidates, m.services, m.watchErrors,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Metrics returns the metrics of a replica, for the reference of the documentation.
func Metrics() []metric.Family { return newMetrics("").catalogue.Families() }

// alarm sets an alarm and reports whether it is new.
func (m *metrics) alarm(name string, on bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	news := on && !m.on[name]
	m.on[name] = on
	value := 0.0
	if on {
		value = 1
	}
	m.alarms.WithLabelValues(name).Set(value)
	return news
}

// serve answers probes and scrapes until ctx ends.
func (m *metrics) serve(ctx context.Context, address string) error {
	mux := http.NewServeMux()
	fine := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) }
	mux.HandleFunc("/healthz", fine)
	mux.HandleFunc("/readyz", fine)
	mux.Handle("/metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("serve health: %w", err)
	}
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health: %w", err)
	}
	return nil
}
