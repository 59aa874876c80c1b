package cni

import (
	"context"

	"onlink/cni/pod"
)

// settle finishes what a killed agent left half done, from what the kernel and
// IPAM hold: pods that DEL took out of service, and attachments that have no
// veth, because ADD did not get so far or DEL got further. It runs before the
// first request is served.
func (s *Server) settle(ctx context.Context) error {
	found, err := s.host.Settle(ctx, s.cfg.IPAM.Attachments())
	if err != nil {
		return err
	}
	if err := s.cfg.Senders.Replace(found.Senders); err != nil {
		// The self-test finds it too, and until it is mended no pod is added.
		s.cfg.Log.Error("failed to enforce MAC addresses of pods", "err", err)
	}
	for _, a := range found.Ended {
		s.finish(a)
	}
	for _, a := range s.cfg.IPAM.Attachments() {
		if found.HasDevice(a) {
			continue
		}
		if err := s.settleOne(ctx, a); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("cannot tell whether a pod without veth has ended", "container", a.ContainerID, "netns", a.Netns, "err", err)
		}
	}
	return nil
}

// finish hands an attachment that is out of service to the reaper.
func (s *Server) finish(a Attachment) {
	lease, _ := s.cfg.IPAM.Lookup(a)
	for _, addr := range lease.Addresses {
		s.cfg.Routes.DeletePod(hostPrefix(addr))
	}
	s.reaper.Add(a)
}

// settleOne frees an attachment without a veth, if nothing can have its
// addresses: its namespace is gone, or has no interface of its name. That the
// veth cannot be seen is not enough: the agent may have been started in the
// wrong namespace.
func (s *Server) settleOne(ctx context.Context, a Attachment) error {
	unlock, err := s.locks.lock(ctx, a.Key())
	if err != nil {
		return err
	}
	defer unlock()
	if !pod.NetnsGone(a.Netns) {
		there, err := s.host.HasInterface(ctx, a)
		if err != nil || there {
			return err
		}
	}
	lease, held := s.cfg.IPAM.Lookup(a)
	if !held {
		return nil
	}
	s.cfg.Log.Info("pod was left without its interface, its addresses are free",
		"namespace", a.Namespace, "pod", a.Pod, "container", a.ContainerID, "addresses", lease.Addresses)
	return s.forget(ctx, a, lease)
}
