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

	// All below is the loop's alone.
	since time.Time // of leaving
	// asked and resumed say when the agent's drain is this Node's: this process, or
	// maybe one before it, asked for it.
	asked, resumed bool
	call           *drainCall // nil: none is on its way
}

// drainCall is a call by which the agent drains. It takes spec.drain.wait, which may be
// an hour, so that the loop does not wait for it: the cause may go meanwhile.
type drainCall struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when err is there
	err    error
}

// end ends the call. The agent's drain goes on.
func (c *drainCall) end() {
	c.cancel()
	<-c.done
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
	defer func() {
		if d.call != nil {
			d.call.end()
		}
	}()
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
	d.resumed = at != serving
	d.set(at, "")
}

// withdraw makes the agent withdraw the node's blocks, once no pod uses them.
func (d *drainer) withdraw(ctx context.Context, length time.Duration, why string) time.Duration {
	if d.call == nil {
		s, _, up := d.link.last()
		if !up || s.GetAddressesUsed() > 0 {
			return 0 // the next status wakes this loop
		}
		d.asked = true
		d.call = d.start(ctx, length)
		return 0
	}
	select {
	case <-d.call.done:
	default:
		return 0 // its end wakes this loop
	}
	err := d.call.err
	d.call = nil
	if err != nil {
		if ctx.Err() == nil {
			d.log.Error("failed to drain", "err", err)
		}
		return firstRetry
	}
	d.set(drained, why)
	return 0
}

// start begins the agent's drain.
func (d *drainer) start(ctx context.Context, length time.Duration) *drainCall {
	ctx, cancel := context.WithTimeout(ctx, length+callTime)
	c := &drainCall{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer d.wake.ring()
		defer close(c.done)
		defer cancel()
		_, c.err = d.link.admin.Drain(ctx, &onlinkv1.DrainRequest{Wait: durationpb.New(length)})
	}()
	return c
}

// end makes the node serve again, when this process or an earlier one drained it.
func (d *drainer) end(ctx context.Context) time.Duration {
	if at, _ := d.reason(); at == serving {
		return 0
	}
	_, _, up := d.link.last()
	ours, known := d.ours()
	if !known || ours && !up {
		return firstRetry
	}
	if ours {
		if err := d.undrain(ctx); err != nil {
			if ctx.Err() == nil {
				d.log.Error("failed to end the drain", "err", err)
			}
			return firstRetry
		}
	}
	d.asked, d.resumed = false, false
	d.set(serving, "")
	return 0
}

// ours reports whether the agent's drain is to end with the cause; known is false while
// only the agent can say it and is away. Its status is no witness otherwise: it may be
// older than the drain, and what it shows may be the operator's.
func (d *drainer) ours() (ours, known bool) {
	at, _ := d.reason()
	switch {
	case d.asked, d.resumed && at != leaving:
		return true, true
	case !d.resumed:
		return false, true
	}
	// The process before may have come further than the annotation.
	s, _, up := d.link.last()
	return s.GetDrain() != string(serving), up
}

// undrain ends the agent's drain, and does it again when a call was on its way: the agent
// may have begun with that one afterwards.
func (d *drainer) undrain(ctx context.Context) error {
	again := d.call != nil
	if again {
		d.call.end()
		d.call = nil
	}
	for {
		call, cancel := context.WithTimeout(ctx, callTime)
		_, err := d.link.admin.Undrain(call, &onlinkv1.UndrainRequest{})
		cancel()
		if err != nil || !again {
			return err
		}
		again = false
	}
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
