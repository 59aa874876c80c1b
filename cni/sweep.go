package cni

import (
	"context"
	"fmt"

	"onlink/cni/pod"
)

// Sweep frees the attachments of pods that ended without a DEL, as after a
// crash of the runtime, and returns them. An attachment goes only when its
// network namespace is gone and its veth too: a veth ends with the pod's
// namespace, so a namespace that merely is not visible from here is not
// mistaken for one that ended. Serve must be running.
func (s *Server) Sweep(ctx context.Context) ([]Attachment, error) {
	var freed []Attachment
	for _, a := range s.cfg.IPAM.Attachments() {
		// Without a path (an attachment that was recovered) the veth alone
		// tells.
		if a.Netns != "" && !pod.NetnsGone(a.Netns) {
			continue
		}
		gone, err := s.sweepOne(ctx, a)
		if err != nil {
			return freed, fmt.Errorf("sweep %s: %w", a.Key(), err)
		}
		if gone {
			freed = append(freed, a)
		}
	}
	return freed, nil
}

// sweepOne frees one attachment unless it has a veth. No ADD of the attachment
// is under way then: one that began before has made its veth or was undone.
func (s *Server) sweepOne(ctx context.Context, a Attachment) (bool, error) {
	unlock, err := s.locks.lock(ctx, a.Key())
	if err != nil {
		return false, err
	}
	defer unlock()
	lease, held := s.cfg.IPAM.Lookup(a)
	if !held || s.reaper.Has(a.Key()) {
		return false, nil
	}
	wired, err := s.host.HasDevice(ctx, a)
	if err != nil || wired {
		return false, err
	}
	if err := s.forget(ctx, a, lease); err != nil {
		return false, err
	}
	s.cfg.Log.Info("pod has ended without a DEL, its addresses are free",
		"namespace", a.Namespace, "pod", a.Pod, "container", a.ContainerID, "addresses", lease.Addresses)
	return true, nil
}

// WaitEnded returns when nothing is left of the pods that DEL has disconnected
// so far.
func (s *Server) WaitEnded(ctx context.Context) error { return s.reaper.Flush(ctx) }

// Evict disconnects one attachment by an operator's order, whatever state its
// pod is in: veth, route and addresses go, as with DEL.
func (s *Server) Evict(ctx context.Context, a Attachment) error {
	unlock, err := s.locks.lock(ctx, a.Key())
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.reaper.Wait(ctx, a.Key()); err != nil {
		return err
	}
	lease, _ := s.cfg.IPAM.Lookup(a)
	if err := s.detach(ctx, a, lease); err != nil {
		return fmt.Errorf("evict %s: %w", a.Key(), err)
	}
	s.cfg.Log.Warn("pod disconnected by an operator", "namespace", a.Namespace, "pod", a.Pod, "container", a.ContainerID, "addresses", lease.Addresses)
	return nil
}
