package cni

import (
	"context"
	"fmt"
	"strings"
)

// del serves DEL. It needs container ID and interface name only: the host end's
// name leads to the veth, IPAM to the addresses. When it answers the pod is cut
// off; its veth and addresses are freed a moment later, see [pod.Reaper].
func (c *connector) del(ctx context.Context, r *request) ([]byte, error) {
	unlock, err := c.locks.lock(ctx, r.Key())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if c.reaper.Has(r.Key()) {
		return nil, nil
	}
	lease, held := c.cfg.IPAM.Lookup(r.Attachment)
	if err := c.retire(ctx, r.Attachment, lease); err != nil {
		return nil, err
	}
	if held {
		c.cfg.Log.Info("pod disconnected", "namespace", r.Namespace, "pod", r.Pod, "addresses", lease.Addresses)
	}
	return nil, nil
}

// evict disconnects an attachment in any state of its pod; see [Server.Evict].
func (c *connector) evict(ctx context.Context, a Attachment) error {
	unlock, err := c.locks.lock(ctx, a.Key())
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.reaper.Wait(ctx, a.Key()); err != nil {
		return err
	}
	lease, _ := c.cfg.IPAM.Lookup(a)
	if err := c.detach(ctx, a, lease); err != nil {
		return fmt.Errorf("evict %s: %w", a.Key(), err)
	}
	c.cfg.Log.Warn("pod disconnected by an operator", "namespace", a.Namespace, "pod", a.Pod, "container", a.ContainerID, "addresses", lease.Addresses)
	return nil
}

// check serves CHECK: it compares the kernel with the wiring of ADD and names
// every difference.
func (c *connector) check(ctx context.Context, r *request) ([]byte, error) {
	unlock, err := c.locks.lock(ctx, r.Key())
	if err != nil {
		return nil, err
	}
	defer unlock()
	lease, held := c.cfg.IPAM.Lookup(r.Attachment)
	if !held || c.reaper.Has(r.Key()) {
		return nil, fmt.Errorf("%w: no address is assigned to it", ErrMismatch)
	}
	missing, err := r.missingFromPrevious(lease.Addresses)
	if err != nil {
		return nil, err
	}
	netns, err := c.openNetns(r.Netns)
	if err != nil {
		return nil, err
	}
	defer func() { _ = netns.Close() }()
	w := c.requested(r, lease, netns)
	if r.conf.MTU == 0 {
		w.MTU = 0 // the agent's MTU may have changed since ADD
	}
	found, err := c.host.Check(ctx, w)
	if err != nil {
		return nil, err
	}
	for _, a := range missing {
		found = append(found, "prevResult: assigned address "+a.String()+" missing")
	}
	if len(found) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrMismatch, strings.Join(found, "; "))
	}
	return nil, nil
}
