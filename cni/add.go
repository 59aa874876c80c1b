package cni

import (
	"context"
	"fmt"
)

// add serves ADD; package cni gives the order and the reasons. allowed holds the
// patterns of the sysctls that a pod may have.
func (c *connector) add(ctx context.Context, r *request, allowed []string) ([]byte, error) {
	if _, err := r.previous(); err != nil { // before any other step, none of which needs undoing then
		return nil, err
	}
	if err := permitted(r.sysctls, allowed); err != nil {
		return nil, err
	}
	unlock, err := c.locks.lock(ctx, r.Key())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := c.reaper.Wait(ctx, r.Key()); err != nil {
		return nil, err
	}
	netns, err := c.openNetns(r.Netns)
	if err != nil {
		return nil, err
	}
	defer func() { _ = netns.Close() }()

	lease, err := c.cfg.IPAM.Assign(ctx, r.Attachment, r.choice(c.cfg.Namespaces))
	if err != nil {
		return nil, fmt.Errorf("assign address: %w", err)
	}
	w := c.requested(r, lease, netns)
	for _, a := range lease.Addresses {
		c.cfg.Routes.SetPod(hostPrefix(a), w.HostDevice())
	}
	out, err := r.result(w) // before the kernel is changed
	if err != nil {
		return nil, c.undo(ctx, r.Attachment, lease, err)
	}
	var beside error
	var meanwhile func()
	if _, none := c.cfg.Senders.(allSenders); !none && r.mac == nil {
		meanwhile = func() { beside = c.allow(w) } // takes another lock of the kernel than the wiring
	}
	err = c.connect(ctx, w, meanwhile)
	if err == nil {
		err = ctx.Err() // the shim is gone: the runtime never receives this result
	}
	if err != nil {
		c.failed(ctx, err)
		return nil, c.undo(ctx, r.Attachment, lease, fmt.Errorf("connect pod: %w", err))
	}
	if beside == nil && r.mac != nil {
		// Only after connect: an interface that was there already may have another
		// MAC address than the runtime's choice.
		beside = c.allow(w)
	}
	if beside != nil {
		c.failed(ctx, beside)
		return nil, c.undo(ctx, r.Attachment, lease, beside)
	}
	c.cfg.Log.Info("pod connected", "namespace", r.Namespace, "pod", r.Pod, "addresses", lease.Addresses, "device", w.HostDevice())
	return out, nil
}
