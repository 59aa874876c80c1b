package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"onlink/cni/pod"
)

// connector connects pods and disconnects them. An attachment has its state in
// four places: addresses in [IPAM], routes in the learn loop, the MAC address it
// may send from in [Senders], and the veth in the kernel. The connector alone
// sets the order in which they are taken and released: after a failed step no
// address may be free that a pod still has.
type connector struct {
	cfg    *Config
	host   *pod.Host
	reaper *pod.Reaper
	locks  keyLock // by attachment

	// failed receives the error when the kernel refused a pod whose call was valid,
	// before the ADD is undone: the node may be the cause.
	failed func(context.Context, error)
}

func newConnector(cfg *Config, host *pod.Host) *connector {
	return &connector{
		cfg: cfg, host: host,
		reaper: pod.NewReaper(host, pod.ReaperConfig{Release: cfg.IPAM.Release, Forget: cfg.Senders.Forget, Log: cfg.Log}),
	}
}

// undoTimeout bounds the undoing of a failed ADD, which goes on after its
// request's cancellation.
const undoTimeout = 15 * time.Second

// allow lets the pod send from its MAC address.
func (c *connector) allow(w *pod.Wiring) error {
	if err := c.cfg.Senders.Allow(w.HostDevice(), w.MAC); err != nil {
		return fmt.Errorf("allow MAC address %s: %w", w.MAC, err)
	}
	return nil
}

// connect makes the veth, and calls meanwhile beside that. An interface that is
// in its way may be one that a DEL has ended: then it waits for the removal and
// tries once more.
func (c *connector) connect(ctx context.Context, w *pod.Wiring, meanwhile func()) error {
	err := c.host.Connect(ctx, w, meanwhile)
	if pending, _ := c.reaper.Counts(); pending == 0 || !errors.Is(err, pod.ErrIfName) {
		return blame(err)
	}
	if err := c.reaper.Flush(ctx); err != nil {
		return err
	}
	return blame(c.host.Connect(ctx, w, nil))
}

// openNetns opens the pod's network namespace.
func (c *connector) openNetns(path string) (*os.File, error) {
	f, err := c.host.OpenNetns(path)
	if err != nil {
		return nil, fmt.Errorf("%w: CNI_NETNS: %w", ErrNetns, err)
	}
	return f, nil
}

// wiring returns the desired interface of an attachment on this node.
func (c *connector) wiring(a Attachment, addresses []netip.Addr) *pod.Wiring {
	w := pod.NewWiring(a, addresses)
	w.Metric, w.Table = c.cfg.Metric, c.cfg.Table
	return w
}

// requested returns the desired interface of an attachment, with the request's
// own settings.
func (c *connector) requested(r *request, lease Lease, netns *os.File) *pod.Wiring {
	w := c.wiring(r.Attachment, lease.Addresses)
	w.NetnsFile, w.MTU, w.Sysctls = netns, r.conf.MTU, r.sysctls
	if r.mac != nil {
		w.MAC = r.mac
	}
	if w.MTU == 0 && c.cfg.MTU != nil {
		w.MTU = c.cfg.MTU()
	}
	return w
}

// undo takes back a failed ADD and returns the error that made it fail, joined
// with those of undoing it. An attachment that is connected elsewhere, or an
// interface that is not ours, was not made by this ADD and stays.
func (c *connector) undo(ctx context.Context, a Attachment, lease Lease, cause error) error {
	if errors.Is(cause, pod.ErrElsewhere) {
		return cause
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if errors.Is(cause, pod.ErrNameTaken) {
		return errors.Join(cause, c.forget(ctx, a, lease))
	}
	return errors.Join(cause, c.detach(ctx, a, lease))
}

// retire takes the veth out of service, withdraws the routes, and leaves the
// rest to the reaper.
func (c *connector) retire(ctx context.Context, a Attachment, lease Lease) error {
	wired, err := c.host.Retire(ctx, a)
	if err != nil && !c.spared(err) {
		return fmt.Errorf("disconnect pod: %w", err)
	}
	if !wired {
		return c.forget(ctx, a, lease)
	}
	c.finish(a)
	return nil
}

// finish hands an attachment that is out of service to the reaper.
func (c *connector) finish(a Attachment) {
	lease, _ := c.cfg.IPAM.Lookup(a)
	for _, addr := range lease.Addresses {
		c.cfg.Routes.DeletePod(hostPrefix(addr))
	}
	c.reaper.Add(a)
}

// detach removes the veth, withdraws the routes and releases the addresses, in
// this order: an address must not be free while its veth still has it. A step
// that fails stops the ones after it, so that the next DEL finds all of them.
func (c *connector) detach(ctx context.Context, a Attachment, lease Lease) error {
	if err := c.host.Remove(ctx, a); err != nil && !c.spared(err) {
		return fmt.Errorf("disconnect pod: %w", err)
	}
	return c.forget(ctx, a, lease)
}

// forget withdraws the routes and releases the addresses.
func (c *connector) forget(ctx context.Context, a Attachment, lease Lease) error {
	if err := c.cfg.Senders.Forget(pod.HostDevice(a.ContainerID, a.IfName)); err != nil {
		return fmt.Errorf("remove MAC address: %w", err)
	}
	for _, addr := range lease.Addresses {
		c.cfg.Routes.DeletePod(hostPrefix(addr))
	}
	if err := c.cfg.IPAM.Release(ctx, a); err != nil {
		return fmt.Errorf("release addresses: %w", err)
	}
	return nil
}

// spared logs that a foreign device has the name of a host end, and reports that
// it was left alone. That is no reason to keep the pod's addresses: its own veth
// cannot be there.
func (c *connector) spared(err error) bool {
	if !errors.Is(err, pod.ErrNameTaken) {
		return false
	}
	c.cfg.Log.Warn("a foreign device has the name of a pod's device, left alone", "err", err)
	return true
}

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// blame marks an error of the wiring whose cause is the call.
func blame(err error) error {
	if errors.Is(err, pod.ErrIfName) {
		return fmt.Errorf("%w: CNI_IFNAME: %w", ErrEnvironment, err)
	}
	if _, refused := errors.AsType[*pod.SysctlError](err); refused {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return err
}
