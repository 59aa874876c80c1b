package cni

import (
	"context"
	"errors"
	"fmt"

	"onlink/cni/pod"
)

// collector frees the attachments of pods that are gone: the unfinished ones of a
// killed agent, those that the runtime does not list, and those that ended
// without a DEL.
type collector struct {
	cfg  *Config
	pods *connector
}

// settle finishes the work of a killed agent, from the kernel's and IPAM's state:
// pods that DEL took out of service, and attachments without a veth, whose ADD
// had not made it yet or whose DEL had removed it. It runs before the first
// request is served.
func (c *collector) settle(ctx context.Context) error {
	found, err := c.pods.host.Settle(ctx, c.cfg.IPAM.Attachments())
	if err != nil {
		return err
	}
	if err := c.cfg.Senders.Replace(found.Senders); err != nil {
		// The self-test finds it too, and no pod is added before it is mended.
		c.cfg.Log.Error("failed to enforce MAC addresses of pods", "err", err)
	}
	for _, a := range found.Ended {
		c.pods.finish(a)
	}
	for _, a := range c.cfg.IPAM.Attachments() {
		if found.HasDevice(a) {
			continue
		}
		if err := c.settleOne(ctx, a); err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("cannot tell whether a pod without veth has ended", "container", a.ContainerID, "netns", a.Netns, "err", err)
		}
	}
	return nil
}

// settleOne frees an attachment without a veth, if no pod can have its addresses:
// its namespace is gone, or has no interface of its name. An invisible veth is
// not enough: the agent may have been started in the wrong namespace.
func (c *collector) settleOne(ctx context.Context, a Attachment) error {
	unlock, err := c.pods.locks.lock(ctx, a.Key())
	if err != nil {
		return err
	}
	defer unlock()
	if !pod.NetnsGone(a.Netns) {
		there, err := c.pods.host.HasInterface(ctx, a)
		if err != nil || there {
			return err
		}
	}
	lease, held := c.cfg.IPAM.Lookup(a)
	if !held {
		return nil
	}
	c.cfg.Log.Info("pod was left without its interface, its addresses are free",
		"namespace", a.Namespace, "pod", a.Pod, "container", a.ContainerID, "addresses", lease.Addresses)
	return c.pods.forget(ctx, a, lease)
}

// gc serves GC: it frees the attachments that the runtime does not list. An
// attachment whose network namespace still exists is kept even then, because the
// list may be another network's.
func (c *collector) gc(ctx context.Context, r *request) ([]byte, error) {
	valid, err := r.validAttachments()
	if err != nil {
		return nil, err
	}
	candidates, err := c.garbage(ctx, valid)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range candidates {
		if err := c.collect(ctx, a); err != nil { // no reason to keep the others
			errs = append(errs, fmt.Errorf("collect %s: %w", a.Key(), err))
		}
	}
	return nil, errors.Join(append(errs, c.pods.reaper.Flush(ctx))...)
}

// garbage returns the attachments that are not valid: those with addresses but
// without a namespace, and veths without a lease.
func (c *collector) garbage(ctx context.Context, valid map[string]bool) ([]Attachment, error) {
	var out []Attachment
	leased := map[string]bool{}
	for _, a := range c.cfg.IPAM.Attachments() {
		leased[a.Key()] = true
		if !valid[a.Key()] && pod.NetnsGone(a.Netns) {
			out = append(out, a)
		}
	}
	wired, err := c.pods.host.Attachments(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range wired {
		if !leased[a.Key()] && !valid[a.Key()] {
			out = append(out, a)
		}
	}
	return out, nil
}

// collect frees one attachment unless an ADD has connected it meanwhile.
func (c *collector) collect(ctx context.Context, a Attachment) error {
	unlock, err := c.pods.locks.lock(ctx, a.Key())
	if err != nil {
		return err
	}
	defer unlock()
	lease, held := c.cfg.IPAM.Lookup(a)
	if held && !pod.NetnsGone(a.Netns) || c.pods.reaper.Has(a.Key()) {
		return nil
	}
	c.cfg.Log.Info("garbage collected", "namespace", a.Namespace, "pod", a.Pod, "container", a.ContainerID, "addresses", lease.Addresses)
	return c.pods.retire(ctx, a, lease)
}

// sweep frees the attachments of pods that ended without a DEL, as after a crash
// of the runtime, and returns them. An attachment is freed only when its network
// namespace is gone and its veth too: a veth ends with the pod's namespace, so a
// namespace that merely is not visible from here is not mistaken for one that
// ended. Serve must be running.
func (c *collector) sweep(ctx context.Context) ([]Attachment, error) {
	var freed []Attachment
	for _, a := range c.cfg.IPAM.Attachments() {
		// Without a path (an attachment that was recovered) the veth alone decides.
		if a.Netns != "" && !pod.NetnsGone(a.Netns) {
			continue
		}
		gone, err := c.sweepOne(ctx, a)
		if err != nil {
			return freed, fmt.Errorf("sweep %s: %w", a.Key(), err)
		}
		if gone {
			freed = append(freed, a)
		}
	}
	return freed, nil
}

// sweepOne frees one attachment unless it has a veth. No ADD of the attachment is
// under way then: one that began before has made its veth or was undone.
func (c *collector) sweepOne(ctx context.Context, a Attachment) (bool, error) {
	unlock, err := c.pods.locks.lock(ctx, a.Key())
	if err != nil {
		return false, err
	}
	defer unlock()
	lease, held := c.cfg.IPAM.Lookup(a)
	if !held || c.pods.reaper.Has(a.Key()) {
		return false, nil
	}
	wired, err := c.pods.host.HasDevice(ctx, a)
	if err != nil || wired {
		return false, err
	}
	if err := c.pods.forget(ctx, a, lease); err != nil {
		return false, err
	}
	c.cfg.Log.Info("pod has ended without a DEL, its addresses are free",
		"namespace", a.Namespace, "pod", a.Pod, "container", a.ContainerID, "addresses", lease.Addresses)
	return true, nil
}
