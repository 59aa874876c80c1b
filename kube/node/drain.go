package node

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	corev1 "k8s.io/api/core/v1"

	"onlink/kube/api/v1alpha1"
	onlinkv1 "onlink/proto/v1"
)

// phase is how far the node has left. Services leave first, because they have
// other nodes; the node's own blocks stay announced while a pod uses one.
type phase string

const (
	serving   phase = "serving"
	leaving   phase = "leaving"            // services are announced with GRACEFUL_SHUTDOWN
	withdrawn phase = "services-withdrawn" // pods of the node still have addresses
	drained   phase = "drained"            // the agent has withdrawn the blocks
)

// defaultWait is spec.drain.wait of an OnlinkConfig without it.
const defaultWait = 30 * time.Second

// shutdownText is what kubelet's condition Ready says while the machine shuts down
// gracefully (its shutdown manager has no reason of its own for it).
const shutdownText = "node is shutting down"

// drainer drains the node when its Node says so, and ends that drain when it no
// longer does. A drain by onlinkctl is the operator's: it neither begins nor ends
// it.
type drainer struct {
	log     *slog.Logger
	objects *objects
	link    *link
	wake    bell   // an object or the status changed
	bells   []bell // rung after a change of phase

	mu    sync.Mutex // guards all below
	at    phase
	why   string // why the node drains
	began bool   // the phase of the Node's annotation was read

	since time.Time // of leaving; the loop's alone
}

func (d *drainer) phase() phase {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at
}

// reason returns the phase, and why the node drains.
func (d *drainer) reason() (phase, string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at, d.why
}

// known reports whether the phase is that of this process's own look at the Node:
// before, the annotation is to stay.
func (d *drainer) known() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.began
}

func (d *drainer) set(p phase, why string) {
	d.mu.Lock()
	moved, changed := d.at != p, d.at != p || !d.began
	d.at, d.why, d.began = p, why, true
	d.mu.Unlock()
	if moved {
		d.log.Info("drain", "phase", string(p), "reason", why)
	}
	if changed {
		for _, b := range d.bells {
			b.ring()
		}
	}
}

// run follows the Node until ctx ends. It returns nil then.
func (d *drainer) run(ctx context.Context) error {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		case <-d.wake:
		}
		if wait := d.turn(ctx); wait > 0 {
			again.Reset(wait)
		}
	}
}

// turn takes the next step. wait is when to look again without a change.
func (d *drainer) turn(ctx context.Context) (wait time.Duration) {
	self, ok := d.objects.self.get(d.objects.node)
	if !ok || !d.objects.configs.synced() {
		return 0
	}
	config, _ := d.objects.configs.get(v1alpha1.ConfigName)
	if !d.known() {
		d.resume(self)
	}
	why := drainReason(self, config)
	if why == "" {
		return d.end(ctx)
	}
	length := drainWait(config)
	at, _ := d.reason()
	switch at {
	case serving:
		d.since = time.Now()
		d.set(leaving, why)
		return length
	case leaving:
		if rest := time.Until(d.since.Add(length)); rest > 0 {
			return rest
		}
		d.set(withdrawn, why)
		fallthrough
	case withdrawn:
		s, _, up := d.link.last()
		if !up || s.GetAddressesUsed() > 0 {
			return 0 // the next status wakes this loop
		}
		return d.withdraw(ctx, length, why)
	case drained:
	}
	return 0
}

// resume takes up the drain that an earlier process began.
func (d *drainer) resume(self *corev1.Node) {
	at := phase(self.Annotations[v1alpha1.DrainedAnnotation])
	switch at {
	case leaving:
		d.since = time.Now()
	case withdrawn, drained:
	default:
		at = serving
	}
	d.set(at, "")
}

// withdraw makes the agent withdraw the node's blocks.
func (d *drainer) withdraw(ctx context.Context, length time.Duration, why string) time.Duration {
	call, cancel := context.WithTimeout(ctx, length+callTime)
	defer cancel()
	if _, err := d.link.admin.Drain(call, &onlinkv1.DrainRequest{Wait: durationpb.New(length)}); err != nil {
		if ctx.Err() == nil {
			d.log.Error("failed to drain", "err", err)
		}
		return firstRetry
	}
	d.set(drained, why)
	return 0
}

// end makes the node serve again, when this process or an earlier one drained it.
func (d *drainer) end(ctx context.Context) time.Duration {
	at, _ := d.reason()
	if at == serving {
		return 0
	}
	if s, _, up := d.link.last(); !up || s.GetDrain() != string(serving) {
		if !up {
			return firstRetry
		}
		call, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		if _, err := d.link.admin.Undrain(call, &onlinkv1.UndrainRequest{}); err != nil {
			if ctx.Err() == nil {
				d.log.Error("failed to end the drain", "err", err)
			}
			return firstRetry
		}
	}
	d.set(serving, "")
	return 0
}

// drainReason returns why the node is to leave; "": it is not. A cordon is no
// reason: its pods still serve.
func drainReason(self *corev1.Node, config *v1alpha1.OnlinkConfig) string {
	if v, ok := self.Annotations[v1alpha1.DrainAnnotation]; ok && v != "false" {
		return "annotation " + v1alpha1.DrainAnnotation
	}
	keys := []string{corev1.TaintNodeOutOfService}
	if config != nil {
		keys = append(keys, config.Spec.Drain.Taints...)
	}
	for _, t := range self.Spec.Taints {
		if slices.Contains(keys, t.Key) {
			return "taint " + t.Key
		}
	}
	for _, c := range self.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionFalse && strings.Contains(c.Message, shutdownText) {
			return "kubelet: " + shutdownText
		}
	}
	return ""
}

func drainWait(config *v1alpha1.OnlinkConfig) time.Duration {
	if config == nil || config.Spec.Drain.Wait == "" {
		return defaultWait
	}
	wait, err := time.ParseDuration(string(config.Spec.Drain.Wait))
	if err != nil || wait < 0 {
		return defaultWait // the rendering rejects it
	}
	return min(wait, time.Hour) // the agent's bound
}
