package controller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what a replica shows.
type metrics struct {
	registry   *prometheus.Registry
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

func newMetrics() *metrics {
	m := &metrics{
		registry:    prometheus.NewRegistry(),
		leading:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "onlink_controller_leading", Help: "1 while this replica works."}),
		errors:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "onlink_controller_errors_total", Help: "Failed turns of a part."}, []string{"part"}),
		alarms:      prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "onlink_controller_alarm", Help: "1 while a person is needed."}, []string{"alarm"}),
		freed:       prometheus.NewCounter(prometheus.CounterOpts{Name: "onlink_controller_blocks_freed_total", Help: "Blocks of deleted nodes that were freed."}),
		candidates:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "onlink_controller_deleted_nodes", Help: "Deleted nodes that still own blocks."}),
		services:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "onlink_controller_services", Help: "Services of type LoadBalancer."}, []string{"state"}),
		watchErrors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "onlink_controller_watch_errors_total", Help: "Failed lists and watches of a kind of object."}, []string{"kind"}),
		on:          map[string]bool{},
	}
	m.registry.MustRegister(m.leading, m.errors, m.alarms, m.freed, m.candidates, m.services, m.watchErrors, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

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
