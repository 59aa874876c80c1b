package controller

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/client"
)

// Options describe one replica.
type Options struct {
	Client *client.Client
	// Namespace is that of the Leases.
	Namespace string
	// Version is that of the program, for the metrics.
	Version string
	// Identity is the name of this replica: that of its pod.
	Identity string
	Log      *slog.Logger
	// Defaults is the file with the first OnlinkConfig and IPPools; empty: none
	// are made.
	Defaults string
	// Health is the address and port of /healthz, /readyz and /metrics; empty: none.
	Health string
	// TaintNewNodes puts the taint onlink.io/agent-not-ready on new Nodes.
	TaintNewNodes bool
	// NodeSelector is the labels of the Nodes that onlink runs on, and that are
	// tainted therefore; empty: all.
	NodeSelector map[string]string
	// PolicyEnforced says that the cluster runs something that enforces
	// NetworkPolicies.
	PolicyEnforced bool
	// PolicyDaemonSet is the DaemonSet in Namespace that enforces NetworkPolicies
	// once its pods are ready; empty: none.
	PolicyDaemonSet string

	// LeaseDuration is how long a leader that does not renew keeps the others
	// waiting. Default: 15 s.
	LeaseDuration time.Duration
	// BlockAge is how long a freed Block stays as an object. Default: 1 h.
	BlockAge time.Duration
	// CertificateLife is the validity of the certificates of nodes. Default: 7 days.
	CertificateLife time.Duration
	// OrphanAge is how long a Node is gone before an OnlinkNode without an owner goes:
	// kubelet may make the Node again. Default: 1 min.
	OrphanAge time.Duration
}

// controller is the state that parts share.
type controller struct {
	opt    Options
	client *client.Client
	log    *slog.Logger
	m      *metrics
	w      *watches
	events *client.Recorder
	policy atomic.Pointer[metav1.Condition] // of the OnlinkConfig
	counts pace                             // of the part "status"
	// patched is that of the part "load balancer addresses".
	patched patches
}

// part is one loop.
type part struct {
	name  string
	every time.Duration // between two turns without an event
	least time.Duration // between two turns
	do    func(ctx context.Context) error
	wake  chan struct{}
}

func (p *part) signal() {
	select {
	case p.wake <- struct{}{}:
	default: // a turn is due already
	}
}

// settle is how long a turn waits for more events after the first, and after an
// error.
const (
	settle = 100 * time.Millisecond
	again  = time.Second
)

func (p *part) run(ctx context.Context, log *slog.Logger, m *metrics) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-p.wake:
			if !wait(ctx, settle) {
				return
			}
		}
		next := p.every
		if err := p.do(ctx); err != nil && ctx.Err() == nil {
			log.Warn("failed to do a part of the work, tries again", "part", p.name, "err", err)
			m.errors.WithLabelValues(p.name).Inc()
			next = again
		}
		if !wait(ctx, p.least) {
			return
		}
		timer.Reset(next)
	}
}

// wait waits; false: ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
