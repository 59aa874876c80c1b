package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"onlink/cni/pod"
)

// add serves ADD; package cni says in which order and why.
func (s *Server) add(ctx context.Context, r *request) ([]byte, error) {
	if err := s.ready(); err != nil && !errors.Is(err, ErrLimited) && !errors.Is(err, ErrNotAvailable) {
		return nil, fmt.Errorf("%w: %w", ErrRetryLater, err)
	}
	if _, err := r.previous(); err != nil { // before anything is done for nothing
		return nil, err
	}
	if err := permitted(r.sysctls, *s.sysctls.Load()); err != nil {
		return nil, err
	}
	unlock, err := s.locks.lock(ctx, r.Key())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.reaper.Wait(ctx, r.Key()); err != nil {
		return nil, err
	}
	netns, err := s.openNetns(r.Netns)
	if err != nil {
		return nil, err
	}
	defer func() { _ = netns.Close() }()

	lease, err := s.cfg.IPAM.Assign(ctx, r.Attachment, r.ask)
	if err != nil {
		return nil, fmt.Errorf("assign address: %w", err)
	}
	w := s.wiring(r, lease, netns)
	for _, a := range lease.Addresses {
		s.cfg.Routes.SetPod(hostPrefix(a), w.HostDevice())
	}
	out, err := r.result(w) // known before anything is done
	if err != nil {
		return nil, s.undo(ctx, r.Attachment, lease, err)
	}
	var beside error
	var meanwhile func()
	if _, none := s.cfg.Senders.(allSenders); !none && r.mac == nil {
		meanwhile = func() { beside = s.allow(w) } // takes another lock of the kernel than the wiring
	}
	err = s.connect(ctx, w, meanwhile)
	if err == nil {
		err = ctx.Err() // the shim is gone: nobody will know of this pod
	}
	if err != nil {
		s.suspect(ctx, err)
		return nil, s.undo(ctx, r.Attachment, lease, fmt.Errorf("connect pod: %w", err))
	}
	if beside == nil && r.mac != nil {
		// A MAC address of the runtime's choice may not be what an interface
		// has that is there already: until now it could be another's.
		beside = s.allow(w)
	}
	if beside != nil {
		s.suspect(ctx, beside)
		return nil, s.undo(ctx, r.Attachment, lease, beside)
	}
	s.prober.doubt()
	s.cfg.Log.Info("pod connected", "namespace", r.Namespace, "pod", r.Pod, "addresses", lease.Addresses, "device", w.HostDevice())
	return out, nil
}

// allow lets the pod send from its MAC address.
func (s *Server) allow(w *pod.Wiring) error {
	if err := s.cfg.Senders.Allow(w.HostDevice(), w.MAC); err != nil {
		return fmt.Errorf("allow MAC address %s: %w", w.MAC, err)
	}
	return nil
}

// connect makes the veth, and calls meanwhile beside that. An interface that is
// in its way may be one that a DEL has ended: then it waits for the removal and
// tries once more.
func (s *Server) connect(ctx context.Context, w *pod.Wiring, meanwhile func()) error {
	err := s.host.Connect(ctx, w, meanwhile)
	if pending, _ := s.reaper.Counts(); pending == 0 || !errors.Is(err, pod.ErrIfName) {
		return blame(err)
	}
	if err := s.reaper.Flush(ctx); err != nil {
		return err
	}
	return blame(s.host.Connect(ctx, w, nil))
}

// blame marks an error of the wiring that the call is the cause of.
func blame(err error) error {
	if errors.Is(err, pod.ErrIfName) {
		return fmt.Errorf("%w: CNI_IFNAME: %w", ErrEnvironment, err)
	}
	if _, refused := errors.AsType[*pod.SysctlError](err); refused {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return err
}

// openNetns opens the pod's network namespace.
func (s *Server) openNetns(path string) (*os.File, error) {
	f, err := s.host.OpenNetns(path)
	if err != nil {
		return nil, fmt.Errorf("%w: CNI_NETNS: %w", ErrNetns, err)
	}
	return f, nil
}

// wiring returns how the attachment's interface shall be.
func (s *Server) wiring(r *request, lease Lease, netns *os.File) *pod.Wiring {
	w := pod.NewWiring(r.Attachment, lease.Addresses)
	w.NetnsFile, w.MTU, w.Sysctls = netns, r.conf.MTU, r.sysctls
	w.Metric, w.Table = s.cfg.Metric, s.cfg.Table
	if r.mac != nil {
		w.MAC = r.mac
	}
	if w.MTU == 0 && s.cfg.MTU != nil {
		w.MTU = s.cfg.MTU()
	}
	return w
}

// undo takes back a failed ADD and returns the error that made it fail, with
// what went wrong in undoing it. An attachment that stands elsewhere, or an
// interface that is not ours, is none of this ADD's doing and stays.
func (s *Server) undo(ctx context.Context, a Attachment, lease Lease, cause error) error {
	if errors.Is(cause, pod.ErrElsewhere) {
		return cause
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if errors.Is(cause, pod.ErrNameTaken) {
		return errors.Join(cause, s.forget(ctx, a, lease))
	}
	return errors.Join(cause, s.detach(ctx, a, lease))
}

// retire takes the veth out of service, withdraws the routes, and leaves the
// rest to the reaper.
func (s *Server) retire(ctx context.Context, a Attachment, lease Lease) error {
	wired, err := s.host.Retire(ctx, a)
	if err != nil && !s.spared(err) {
		return fmt.Errorf("disconnect pod: %w", err)
	}
	if !wired {
		return s.forget(ctx, a, lease)
	}
	s.finish(a)
	return nil
}

// detach removes the veth, withdraws the routes and releases the addresses, in
// this order: an address must not be free while its veth still has it. A step
// that fails stops the ones after it, so that the next DEL finds all of them.
func (s *Server) detach(ctx context.Context, a Attachment, lease Lease) error {
	if err := s.host.Remove(ctx, a); err != nil && !s.spared(err) {
		return fmt.Errorf("disconnect pod: %w", err)
	}
	return s.forget(ctx, a, lease)
}

// forget withdraws the routes and releases the addresses.
func (s *Server) forget(ctx context.Context, a Attachment, lease Lease) error {
	if err := s.cfg.Senders.Forget(pod.HostDevice(a.ContainerID, a.IfName)); err != nil {
		return fmt.Errorf("remove MAC address: %w", err)
	}
	for _, addr := range lease.Addresses {
		s.cfg.Routes.DeletePod(hostPrefix(addr))
	}
	if err := s.cfg.IPAM.Release(ctx, a); err != nil {
		return fmt.Errorf("release addresses: %w", err)
	}
	return nil
}

// spared notes that a device of somebody else has the name of a host end, and
// is left alone. It is no reason to keep the pod's addresses: its own veth
// cannot be there.
func (s *Server) spared(err error) bool {
	if !errors.Is(err, pod.ErrNameTaken) {
		return false
	}
	s.cfg.Log.Warn("a foreign device has the name of a pod's device, left alone", "err", err)
	return true
}

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
