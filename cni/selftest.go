package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"onlink/cni/pod"
)

// probeRetry is how often a failing self-test is repeated.
const probeRetry = 5 * time.Second

// probeRest is the least time between two self-tests.
const probeRest = time.Second

// probeID is the container of the self-test: no runtime's IDs look like it.
const probeID = "onlink-selftest"

// probeAddresses are on the self-test's interface, inside its own namespace only
// (RFC 5737, RFC 3849).
var probeAddresses = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}

// prober tests whether an ADD can succeed on this node. A node that lacks a
// right, or whose /proc/sys is read-only, would else call itself ready and fail
// every pod.
type prober struct {
	cfg   *Config
	pods  *connector
	again chan struct{} // cap 1; sent to by wake, never closed
	fault atomic.Pointer[string]
}

func newProber(cfg *Config, pods *connector) *prober {
	return &prober{cfg: cfg, pods: pods, again: make(chan struct{}, 1)}
}

// trouble returns the reason that an ADD would fail, as [ErrNotAvailable]; nil:
// it would not.
func (p *prober) trouble() error {
	fault := p.fault.Load()
	if fault == nil {
		return nil
	}
	return fmt.Errorf("%w: a pod cannot be connected on this node: %s", ErrNotAvailable, *fault)
}

// suspect has the self-test run again after an ADD has failed, unless the call
// itself is to blame.
func (p *prober) suspect(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	for _, blame := range []error{ErrConfig, ErrEnvironment, ErrNetns, pod.ErrNameTaken, pod.ErrElsewhere, pod.ErrIfName} {
		if errors.Is(err, blame) {
			return
		}
	}
	p.wake()
}

// doubt has a failed self-test run again: an ADD has succeeded.
func (p *prober) doubt() {
	if p.fault.Load() != nil {
		p.wake()
	}
}

func (p *prober) wake() {
	select {
	case p.again <- struct{}{}:
	default:
	}
}

// run repeats the self-test when an ADD has failed, and as long as it
// fails, until ctx ends.
func (p *prober) run(ctx context.Context) {
	tick := time.NewTicker(probeRetry)
	defer tick.Stop()
	for {
		due := tick.C
		if p.fault.Load() == nil {
			due = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-p.again:
		case <-due:
		}
		p.probe(ctx)
		select { // pods that fail for other reasons must not repeat the self-test without a rest
		case <-ctx.Done():
		case <-time.After(probeRest):
		}
	}
}

// probe runs the self-test and records its outcome.
func (p *prober) probe(ctx context.Context) {
	err := p.selfTest(ctx)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		if p.fault.Swap(nil) != nil {
			p.cfg.Log.Info("pods can be connected again")
		}
		return
	}
	text := err.Error()
	if old := p.fault.Swap(&text); old == nil || *old != text {
		p.cfg.Log.Error("pods cannot be connected on this node", "err", err)
	}
}

// selfTest connects a namespace of its own as ADD connects a pod's, but for the
// routes to it, and removes it again.
func (p *prober) selfTest(ctx context.Context) error {
	w := p.pods.wiring(Attachment{ContainerID: probeID, IfName: "eth0"}, probeAddresses[:1])
	if p.cfg.IPv6 != nil && p.cfg.IPv6() {
		w.Addresses = probeAddresses
	}
	if p.cfg.MTU != nil {
		w.MTU = p.cfg.MTU()
	}
	if err := blame(p.pods.host.Try(ctx, w)); err != nil {
		return err
	}
	return errors.Join(p.pods.allow(w), p.cfg.Senders.Forget(w.HostDevice()))
}
