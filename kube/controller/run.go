package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/labels"

	"onlink/kube/client"
)

// Run runs a replica until ctx ends. It returns an error when the lead was lost, for
// the process to start anew without what it remembers.
func Run(ctx context.Context, opt Options) error {
	if opt.LeaseDuration <= 0 {
		opt.LeaseDuration = 15 * time.Second
	}
	if opt.BlockAge <= 0 {
		opt.BlockAge = time.Hour
	}
	if opt.OrphanAge <= 0 {
		opt.OrphanAge = time.Minute
	}
	if opt.CertificateLife <= 0 {
		opt.CertificateLife = 7 * 24 * time.Hour
	}
	if _, err := labels.ValidatedSelectorFromSet(opt.NodeSelector); err != nil {
		return fmt.Errorf("labels of the nodes that onlink runs on: %w", err)
	}
	m := newMetrics(opt.Version)
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
	l := newLead(opt)
	if !l.acquire(ctx) {
		return nil
	}
	m.leading.Set(1)
	defer m.leading.Set(0)
	hold, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	lead, stop := context.WithCancel(ctx)
	defer stop()
	worked := make(chan error, 1)
	go func() {
		worked <- work(lead, opt, m)
		release()
	}()
	lost := l.renew(hold)
	stop()
	err := <-worked
	if lost == nil {
		l.release(ctx)
	}
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(err, lost)
}

// Bounds of Events: how many wait, and the pause between two.
const (
	eventQueue = 1024
	eventPause = 100 * time.Millisecond
)

// work does all parts as the leader.
func work(ctx context.Context, opt Options, m *metrics) error {
	opt.Log.Info("leads", "identity", opt.Identity)
	events := client.NewRecorder(opt.Log, opt.Client, client.EventSource{
		Component: "onlink-controller", Controller: "onlink.io/controller", Instance: opt.Identity, Waiting: eventQueue, Pause: eventPause,
	})
	w := newWatches(opt, m)
	c := &controller{opt: opt, client: opt.Client, log: opt.Log, m: m, w: w, events: events, counts: pace{}, patched: patches{}}
	parts := []*part{
		{name: "first objects", every: 5 * time.Second, do: c.firstObjects},
		{name: "load balancer addresses", every: 30 * time.Second, do: c.assignAddresses},
		{name: "blocks of deleted nodes", every: time.Second, least: 500 * time.Millisecond, do: newReaper(c).turn},
		{name: "owners of OnlinkNodes", every: 5 * time.Second, least: time.Second, do: newAdopter(c).turn},
		{name: "status", every: agreePace, least: 2 * time.Second, do: c.writeStatus},
		{name: "certificates of nodes", every: time.Minute, least: 500 * time.Millisecond, do: newIssuer(c).turn},
		{name: "network policies", every: 10 * time.Second, do: c.watchPolicies},
	}
	if opt.TaintNewNodes {
		parts = append(parts, &part{name: "taint of new nodes", every: 30 * time.Second, do: newTainter(c, labels.SelectorFromSet(opt.NodeSelector)).turn})
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
	g.Go(func() error { return events.Run(ctx) })
	g.Go(func() error {
		w.report(ctx, opt.Log)
		return nil
	})
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
	kindService:       {"load balancer addresses": true, "status": true},
	kindPool:          {"load balancer addresses": true, "status": true},
	kindNamespace:     {"load balancer addresses": true},
	kindNode:          {"taint of new nodes": true, "blocks of deleted nodes": true, "owners of OnlinkNodes": true},
	kindConfig:        {"status": true, "network policies": true},
	kindPeer:          {"status": true},
	kindFilter:        {"status": true},
	kindAdvertisement: {"status": true},
	kindOnNode:        {"status": true, "blocks of deleted nodes": true},
	kindBlock:         {"blocks of deleted nodes": true},
	kindRequest:       {"certificates of nodes": true},
}
