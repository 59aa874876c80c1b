package controller

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
)

// LeaseName is the Lease of the replica that works.
const LeaseName = "onlink-controller"

// Run runs a replica until ctx ends. It returns an error when the lead was lost, for
// the process to start anew without what it remembers.
func Run(ctx context.Context, opt Options) error {
	if opt.LeaseDuration <= 0 {
		opt.LeaseDuration = 15 * time.Second
	}
	if opt.BlockAge <= 0 {
		opt.BlockAge = time.Hour
	}
	m := newMetrics()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	if opt.Health != "" {
		g.Go(func() error { return m.serve(ctx, opt.Health) })
	}
	g.Go(func() error {
		defer cancel() // the replica ends as a whole
		return elect(ctx, opt, m)
	})
	return g.Wait()
}

// elect waits for the lead, works, and ends with it. What works ends before the Lease
// is released, or it would write beside its successor.
func elect(ctx context.Context, opt Options, m *metrics) error {
	lead, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	worked := make(chan error, 1)
	var began atomic.Bool
	defer context.AfterFunc(ctx, func() {
		if !began.Load() {
			release()
		}
	})()
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: opt.Namespace, Name: LeaseName},
			Client:     opt.Client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: opt.Identity},
		},
		LeaseDuration: opt.LeaseDuration, RenewDeadline: opt.LeaseDuration * 2 / 3, RetryPeriod: opt.LeaseDuration / 8,
		ReleaseOnCancel: true, Name: LeaseName,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(lead context.Context) {
				began.Store(true)
				m.leading.Set(1)
				lead, cancel := context.WithCancel(lead)
				defer cancel()
				defer context.AfterFunc(ctx, cancel)()
				worked <- work(lead, opt, m)
				release()
			},
			OnStoppedLeading: func() { m.leading.Set(0) },
		},
	})
	if err != nil {
		return fmt.Errorf("elect a leader: %w", err)
	}
	elector.Run(lead)
	release()
	if began.Load() {
		err = <-worked
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	}
	return errors.New("lost the lead: another replica works")
}

// work does all parts as the leader.
func work(ctx context.Context, opt Options, m *metrics) error {
	opt.Log.Info("leads", "identity", opt.Identity)
	events := record.NewBroadcaster(record.WithContext(ctx))
	events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: opt.Client.CoreV1().Events("")})
	defer events.Shutdown()
	w := newWatches(opt)
	c := &controller{
		opt: opt, client: opt.Client, log: opt.Log, m: m, w: w,
		events: events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "onlink-controller"}),
	}
	parts := []*part{
		{name: "first objects", every: 5 * time.Second, do: c.firstObjects},
		{name: "load balancer addresses", every: 30 * time.Second, do: c.assignAddresses},
		{name: "blocks of deleted nodes", every: time.Second, least: 500 * time.Millisecond, do: newReaper(c).turn},
		{name: "status", every: 30 * time.Second, least: 2 * time.Second, do: c.writeStatus},
		{name: "network policies", every: 10 * time.Second, do: c.watchPolicies},
	}
	if opt.TaintNewNodes {
		parts = append(parts, &part{name: "taint of new nodes", every: 30 * time.Second, do: newTainter(c).turn})
	}
	for _, p := range parts {
		p.wake = make(chan struct{}, 1)
	}
	w.notify(func(kind string) {
		for _, p := range parts {
			if wakes[kind][p.name] {
				p.signal()
			}
		}
	})
	g, ctx := errgroup.WithContext(ctx)
	w.start(ctx, g)
	for _, p := range parts {
		g.Go(func() error {
			if !w.synced(ctx) {
				return nil // before a whole list nothing is decided
			}
			p.run(ctx, opt.Log, m)
			return nil
		})
	}
	return g.Wait()
}

// wakes are the parts that an event of a kind of object begins.
var wakes = map[string]map[string]bool{
	kindService:   {"load balancer addresses": true, "status": true},
	kindPool:      {"load balancer addresses": true, "status": true},
	kindNamespace: {"load balancer addresses": true},
	kindNode:      {"taint of new nodes": true, "blocks of deleted nodes": true},
	kindConfig:    {"status": true, "network policies": true},
	kindOther:     {"status": true},
	kindOnNode:    {"status": true, "blocks of deleted nodes": true},
	kindBlock:     {"blocks of deleted nodes": true},
}
