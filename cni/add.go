package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
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
	unlock, err := s.locks.lock(ctx, r.key())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.reaper.wait(ctx, r.key()); err != nil {
		return nil, err
	}
	netns, err := openNetns(r.Netns, s.home)
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
		s.cfg.Routes.SetPod(hostPrefix(a), w.hostDevice)
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
	s.cfg.Log.Info("pod connected", "namespace", r.Namespace, "pod", r.Pod, "addresses", lease.Addresses, "device", w.hostDevice)
	return out, nil
}

// allow lets the pod send from its MAC address.
func (s *Server) allow(w *wiring) error {
	if err := s.cfg.Senders.Allow(w.hostDevice, w.mac); err != nil {
		return fmt.Errorf("allow MAC address %s: %w", w.mac, err)
	}
	return nil
}

// connect makes the veth, and calls meanwhile beside that. An interface that is
// in its way may be one that a DEL has ended: then it waits for the removal and
// tries once more.
func (s *Server) connect(ctx context.Context, w *wiring, meanwhile func()) error {
	err := s.threads.doWhile(ctx, w.connect, meanwhile)
	if pending, _ := s.reaper.counts(); pending == 0 || !errors.Is(err, errIfName) {
		return err
	}
	if err := s.reaper.flush(ctx); err != nil {
		return err
	}
	return s.threads.do(ctx, w.connect)
}

// wiring returns how the attachment's interface shall be.
func (s *Server) wiring(r *request, lease Lease, netns *os.File) *wiring {
	w := &wiring{
		attachment: r.Attachment,
		netns:      netns,
		hostDevice: HostDevice(r.ContainerID, r.IfName),
		mac:        r.mac,
		addresses:  lease.Addresses,
		mtu:        r.conf.MTU,
		metric:     s.cfg.Metric,
		table:      s.cfg.Table,
		sysctls:    r.sysctls,
	}
	if w.mac == nil {
		w.mac = podMAC(r.ContainerID, r.IfName)
	}
	if w.mtu == 0 && s.cfg.MTU != nil {
		w.mtu = s.cfg.MTU()
	}
	return w
}

// undo takes back a failed ADD and returns the error that made it fail, with
// what went wrong in undoing it. An attachment that stands elsewhere, or an
// interface that is not ours, is none of this ADD's doing and stays.
func (s *Server) undo(ctx context.Context, a Attachment, lease Lease, cause error) error {
	if errors.Is(cause, errElsewhere) {
		return cause
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if errors.Is(cause, errNameTaken) {
		return errors.Join(cause, s.forget(ctx, a, lease))
	}
	return errors.Join(cause, s.detach(ctx, a, lease))
}

// retire takes the veth out of service, withdraws the routes, and leaves the
// rest to the reaper.
func (s *Server) retire(ctx context.Context, a Attachment, lease Lease) error {
	var wired bool
	err := s.threads.do(ctx, func(th *thread) (err error) {
		wired, err = retireDevice(th, a)
		return err
	})
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
	device := HostDevice(a.ContainerID, a.IfName)
	if err := s.threads.do(ctx, func(th *thread) error { return removeDevice(th, device) }); err != nil && !s.spared(err) {
		return fmt.Errorf("disconnect pod: %w", err)
	}
	return s.forget(ctx, a, lease)
}

// forget withdraws the routes and releases the addresses.
func (s *Server) forget(ctx context.Context, a Attachment, lease Lease) error {
	if err := s.cfg.Senders.Forget(HostDevice(a.ContainerID, a.IfName)); err != nil {
		return fmt.Errorf("forget MAC address: %w", err)
	}
	for _, addr := range lease.Addresses {
		s.cfg.Routes.DeletePod(hostPrefix(addr))
	}
	if err := s.cfg.IPAM.Release(ctx, a); err != nil {
		return fmt.Errorf("release addresses: %w", err)
	}
	return nil
}

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
