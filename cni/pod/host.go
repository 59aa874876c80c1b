package pod

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"

	"onlink/dump"
	"onlink/internal/ours"
)

// Host is the network namespace that pods are wired to.
type Host struct {
	home    *os.File // the namespace
	wiring  *threads
	reaping *threads // of the reaper and the repair, which must not delay the wiring
}

// OpenHost returns the network namespace of the calling thread as a host.
func OpenHost() (*Host, error) {
	home, err := os.Open(ownNetns)
	if err != nil {
		return nil, fmt.Errorf("open own network namespace: %w", err)
	}
	h, err := newHost(home)
	if err != nil {
		return nil, errors.Join(err, home.Close())
	}
	return h, nil
}

// newHost returns the host of home, which it owns unless it fails.
func newHost(home *os.File) (*Host, error) {
	wiring, err := newThreads(home, wiringThreads)
	if err != nil {
		return nil, err
	}
	reaping, err := newThreads(home, 1)
	if err != nil {
		return nil, errors.Join(err, wiring.close())
	}
	return &Host{home: home, wiring: wiring, reaping: reaping}, nil
}

// Close frees the resources of OpenHost. No other method may run any more.
func (h *Host) Close() error { return errors.Join(h.wiring.close(), h.reaping.close(), h.home.Close()) }

// OpenNetns opens a pod's network namespace for [Wiring].
func (h *Host) OpenNetns(path string) (*os.File, error) { return openNetns(path, h.home) }

// Connect makes the veth with everything on it, and calls meanwhile, if not nil,
// beside that. After an error nothing of this call is left. A complete veth of an
// earlier call is kept as it is; an incomplete one is replaced. Errors:
// [ErrNameTaken], [ErrElsewhere], [ErrIfName], [SysctlError].
func (h *Host) Connect(ctx context.Context, w *Wiring, meanwhile func()) error {
	return h.wiring.doWhile(ctx, w.connect, meanwhile)
}

// Check compares the kernel with a wiring and returns one line for each
// difference.
func (h *Host) Check(ctx context.Context, w *Wiring) (found []string, err error) {
	err = h.wiring.do(ctx, func(th *thread) (err error) {
		found, err = w.check(th)
		return err
	})
	return found, err
}

// Retire takes an attachment's veth out of service: the host end goes down, and
// with it every route to the pod, and the pod's end loses its carrier. It
// reports whether there was one. [Reaper.Add] does the rest.
func (h *Host) Retire(ctx context.Context, a Attachment) (wired bool, err error) {
	err = h.wiring.do(ctx, func(th *thread) (err error) {
		wired, err = retireDevice(th, a)
		return err
	})
	return wired, err
}

// Remove removes an attachment's veth; an absent one is removed already.
func (h *Host) Remove(ctx context.Context, a Attachment) error {
	device := HostDevice(a.ContainerID, a.IfName)
	return h.wiring.do(ctx, func(th *thread) error { return removeDevice(th, device) })
}

// HasDevice reports whether there is a device of the name of the attachment's
// host end.
func (h *Host) HasDevice(ctx context.Context, a Attachment) (bool, error) {
	var link netlink.Link
	err := h.wiring.do(ctx, func(th *thread) (err error) {
		link, err = findLink(th.links, HostDevice(a.ContainerID, a.IfName))
		return err
	})
	return link != nil, err
}

// HasInterface reports whether the attachment's network namespace has an
// interface of its name.
func (h *Host) HasInterface(ctx context.Context, a Attachment) (bool, error) {
	netns, err := h.OpenNetns(a.Netns)
	if err != nil {
		return false, err
	}
	w := Wiring{Attachment: a, NetnsFile: netns}
	var link netlink.Link
	err = h.wiring.do(ctx, func(th *thread) (err error) {
		link, err = w.podLink(th)
		return err
	})
	return link != nil, errors.Join(err, netns.Close())
}

// Try connects a network namespace of its own as Connect does a pod's, but for
// the routes to it, and removes it again. w.NetnsFile is set meanwhile.
func (h *Host) Try(ctx context.Context, w *Wiring) error {
	w.probe = true
	return h.wiring.do(ctx, func(th *thread) (err error) {
		if w.NetnsFile, err = newNetns(th); err != nil {
			return err
		}
		defer func() { _ = w.NetnsFile.Close() }() // the namespace ends with it
		if err := removeDevice(th, w.hostDevice); err != nil {
			return err
		}
		if err := w.connect(th); err != nil {
			return err
		}
		return th.removeIndex(w.hostIndex)
	})
}

// Attachments returns the attachments of the host ends, by their aliases.
func (h *Host) Attachments(ctx context.Context) ([]Attachment, error) {
	links, err := h.listLinks(ctx, h.wiring)
	if err != nil {
		return nil, err
	}
	var out []Attachment
	for _, link := range links {
		if a, ok := hostEnds(nil).owner(link); ok {
			out = append(out, a)
		}
	}
	return out, nil
}

// Found is the state that a former run left on a host.
type Found struct {
	Ended   []Attachment                // out of service, to be reaped
	Senders map[string]net.HardwareAddr // the MAC address of each pod, by host device

	devices map[string]bool
}

// HasDevice reports whether a device had the name of the attachment's host end.
func (f *Found) HasDevice(a Attachment) bool { return f.devices[HostDevice(a.ContainerID, a.IfName)] }

// Settle adopts the host ends that a former run left; known are the attachments
// that have addresses. See [Adopt].
func (h *Host) Settle(ctx context.Context, known []Attachment) (*Found, error) {
	var links []netlink.Link
	var neighbours []netlink.Neigh
	ends := hostEndsOf(known)
	err := h.wiring.do(ctx, func(th *thread) (err error) {
		if links, err = dump.Links(th.links); err != nil {
			return err
		}
		if err := ends.adopt(th.host, links); err != nil {
			return err
		}
		neighbours, err = dump.Neighbours(th.links, 0, netlink.FAMILY_ALL)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := &Found{Senders: ends.senders(links, neighbours), devices: map[string]bool{}}
	for _, link := range links {
		at := link.Attrs()
		out.devices[at.Name] = true
		if a, known := ends.owner(link); known && (at.Group == ours.PodEnded || at.Group == ours.PodRemoving) {
			out.Ended = append(out.Ended, a)
		}
	}
	return out, nil
}

// listLinks lists the links of the host.
func (h *Host) listLinks(ctx context.Context, t *threads) (links []netlink.Link, err error) {
	err = t.do(ctx, func(th *thread) (err error) {
		links, err = listAll(th)
		return err
	})
	return links, err
}

func listAll(th *thread) ([]netlink.Link, error) { return dump.Links(th.links) }
