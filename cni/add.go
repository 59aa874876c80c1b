package cni

import (
	"context"
	"fmt"
)

// add serves ADD; package cni says in which order and why. The patterns of
// sysctls that a pod may have are allowed.
func (c *connector) add(ctx context.Context, r *request, allowed []string) ([]byte, error) {
	if _, err := r.previous(); err != nil { // before anything is done for nothing
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

	lease, err := c.cfg.IPAM.Assign(ctx, r.Attachment, r.ask)
	if err != nil {
		return nil, fmt.Errorf("assign address: %w", err)
	}
	w := c.requested(r, lease, netns)
	for _, a := range lease.Addresses {
		c.cfg.Routes.SetPod(hostPrefix(a), w.HostDevice())
	}
	out, err := r.result(w) // known before anything is done
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
		err = ctx.Err() // the shim is gone: nobody will know of this pod
	}
	if err != nil {
		c.failed(ctx, err)
		return nil, c.undo(ctx, r.Attachment, lease, fmt.Errorf("connect pod: %w", err))
	}
	if beside == nil && r.mac != nil {
		// A MAC address of the runtime's choice may not be what an interface
		// has that is there already: until now it could be another's.
		beside = c.allow(w)
	}
	if beside != nil {
		c.failed(ctx, beside)
		return nil, c.undo(ctx, r.Attachment, lease, beside)
	}
	c.cfg.Log.Info("pod connected", "namespace", r.Namespace, "pod", r.Pod, "addresses", lease.Addresses, "device", w.HostDevice())
	return out, nil
}
