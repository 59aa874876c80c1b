package cni

import (
	"context"
	"errors"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/dump"
	"onlink/internal/ours"
)

// settle finishes what a killed agent left half done, from what the kernel and
// IPAM hold: pods that DEL took out of service, and attachments that have no
// veth, because ADD did not get so far or DEL got further. It runs before the
// first request is served.
func (s *Server) settle(ctx context.Context) error {
	var links []netlink.Link
	var neighbours []netlink.Neigh
	ends := hostEndsOf(s.cfg.IPAM.Attachments())
	err := s.threads.do(ctx, func(th *thread) (err error) {
		if links, err = dump.Links(th.links); err != nil {
			return err
		}
		if err := ends.adopt(th.host, links); err != nil {
			return err
		}
		if neighbours, err = dump.Neighbours(th.links, 0, netlink.FAMILY_ALL); err != nil {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.cfg.Senders.Replace(ends.senders(links, neighbours)); err != nil {
		// The self-test finds it too, and until it is mended no pod is added.
		s.cfg.Log.Error("MAC addresses of pods are not in force", "error", err)
	}
	wired := map[string]bool{}
	for _, link := range links {
		at := link.Attrs()
		wired[at.Name] = true
		a, known := ends.owner(link)
		if known && (at.Group == ours.PodEnded || at.Group == ours.PodRemoving) {
			s.finish(a)
		}
	}
	for _, a := range s.cfg.IPAM.Attachments() {
		if wired[HostDevice(a.ContainerID, a.IfName)] {
			continue
		}
		if err := s.settleOne(ctx, a); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("cannot tell whether a pod without veth has ended", "container", a.ContainerID, "netns", a.Netns, "error", err)
		}
	}
	return nil
}

// senders returns the MAC addresses of the pods that a previous run wired: the
// permanent neighbour entries of the host ends say them. The pod's end may have
// been changed by the pod.
func (h hostEnds) senders(links []netlink.Link, neighbours []netlink.Neigh) map[string]net.HardwareAddr {
	said := map[int]net.HardwareAddr{}
	for _, n := range neighbours {
		if n.State == unix.NUD_PERMANENT && len(n.HardwareAddr) == 6 {
			said[n.LinkIndex] = n.HardwareAddr
		}
	}
	out := map[string]net.HardwareAddr{}
	for _, link := range links {
		at := link.Attrs()
		a, known := h.owner(link)
		if !known {
			continue
		}
		mac := said[at.Index]
		if mac == nil { // somebody removed the entry; CHECK will say so
			mac = podMAC(a.ContainerID, a.IfName)
		}
		out[at.Name] = mac
	}
	return out
}

// finish hands an attachment that is out of service to the reaper.
func (s *Server) finish(a Attachment) {
	lease, _ := s.cfg.IPAM.Lookup(a)
	for _, addr := range lease.Addresses {
		s.cfg.Routes.DeletePod(hostPrefix(addr))
	}
	s.reaper.add(a)
}

// settleOne frees an attachment without a veth, if nothing can have its
// addresses: its namespace is gone, or has no interface of its name. That the
// veth cannot be seen is not enough: the agent may have been started in the
// wrong namespace.
func (s *Server) settleOne(ctx context.Context, a Attachment) error {
	unlock, err := s.locks.lock(ctx, a.key())
	if err != nil {
		return err
	}
	defer unlock()
	if !netnsGone(a.Netns) {
		there, err := s.podHas(ctx, a)
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

// podHas reports whether the attachment's namespace has an interface of its
// name.
func (s *Server) podHas(ctx context.Context, a Attachment) (bool, error) {
	netns, err := openNetns(a.Netns, s.home)
	if err != nil {
		return false, err
	}
	w := wiring{attachment: a, netns: netns}
	var link netlink.Link
	err = s.threads.do(ctx, func(th *thread) (err error) {
		link, err = w.podLink(th)
		return err
	})
	return link != nil, errors.Join(err, netns.Close())
}
