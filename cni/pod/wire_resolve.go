package pod

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/dump"
	"onlink/internal/ours"
	"onlink/internal/rtnl"
	"onlink/sysctl"
)

// resolve handles an interface in the place of the veth. It reports done when
// that is a complete veth of this attachment; it returns neither done nor an
// error when another attempt can succeed.
func (w *Wiring) resolve(th *thread) (done bool, err error) {
	host, err := findLink(th.links, w.hostDevice)
	if err != nil {
		return false, err
	}
	pod, err := w.podLink(th)
	if err != nil {
		return false, err
	}
	switch {
	case host == nil && pod == nil:
		return false, nil // only an index was taken
	case host == nil:
		return false, fmt.Errorf("%s: %w", w.IfName, ErrIfName)
	case !isOurs(host):
		return false, foreignDevice(host)
	case pod == nil || !arePeers(host, pod):
		return false, fmt.Errorf("%s: %w; DEL it first", w.hostDevice, ErrElsewhere)
	}
	wired := *w
	wired.Sysctls = nil // the pod is running and may have changed them
	problems, err := wired.check(th)
	if err != nil {
		return false, err
	}
	if len(problems) == 0 {
		return true, w.repeatSysctls(th)
	}
	return false, removeDevice(th, w.hostDevice) // a crashed ADD's
}

// podLink returns the pod's interface of the attachment's name, nil when there
// is none.
func (w *Wiring) podLink(th *thread) (netlink.Link, error) {
	var link netlink.Link
	err := th.inside(w.NetnsFile, func(h *netlink.Handle) (err error) {
		link, err = findLink(h, w.IfName)
		return err
	})
	return link, err
}

// inside runs f in ns with a handle that is open there, and returns to the
// agent's namespace.
func (th *thread) inside(ns *os.File, f func(*netlink.Handle) error) error {
	if err := th.enter(ns); err != nil {
		return err
	}
	h, err := newHandle()
	if err == nil {
		err = f(h)
		h.Close()
	}
	return errors.Join(err, th.leave())
}

// findLink returns the link with a name, nil when there is none.
func findLink(h *netlink.Handle, name string) (netlink.Link, error) {
	link, err := h.LinkByName(name)
	if _, absent := errors.AsType[netlink.LinkNotFoundError](err); absent {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up interface %s: %w", name, err)
	}
	return link, nil
}

// arePeers reports whether two links are the ends of one veth.
func arePeers(a, b netlink.Link) bool {
	return b.Type() == "veth" && a.Attrs().ParentIndex == b.Attrs().Index && b.Attrs().ParentIndex == a.Attrs().Index
}

// removeDevice removes a veth by the name of its host end; both ends, the routes
// and the neighbours go with it. An absent one is removed already.
func removeDevice(th *thread, name string) error {
	link, err := findLink(th.links, name)
	if err != nil || link == nil {
		return err
	}
	if !isOurs(link) {
		return foreignDevice(link)
	}
	return th.removeIndex(int32(link.Attrs().Index))
}

// routeOwner returns an error that names the owner of the host route to a, nil if
// that is onlink.
func (w *Wiring) routeOwner(th *thread, a netip.Addr) error {
	routes, err := w.routesTo(th, a)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.Protocol != ours.Protocol && uint32(r.Priority) == w.Metric {
			return fmt.Errorf("%s: %w: protocol %s", opHostRoute(a), unix.EEXIST, r.Protocol)
		}
	}
	return nil
}

// routesTo returns the host's routes to exactly a.
func (w *Wiring) routesTo(th *thread, a netip.Addr) ([]netlink.Route, error) {
	filter := &netlink.Route{Dst: netlink.NewIPNet(a.AsSlice()), Table: int(w.Table)}
	routes, err := dump.Routes(th.links, int(rtnl.Family(a)), filter, netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes to %s: %w", a, err)
	}
	return routes, nil
}

// setIPv6 makes IPv6 work on an interface of the current namespace: container
// runtimes disable it in new namespaces. The pod's end takes no router
// advertisements, the host's end forwards.
func setIPv6(device string, pod bool) error {
	settings := map[string]string{"disable_ipv6": "0", "forwarding": "1"}
	if pod {
		settings = map[string]string{"disable_ipv6": "0", "accept_ra": "0"}
	}
	for key, value := range settings {
		if err := sysctl.Set(confName("ipv6", device, key), value); err != nil {
			return err //nolint:wrapcheck // it names the setting
		}
	}
	return nil
}

// confName is the name of a device's setting for package sysctl.
func confName(family, device, key string) string {
	return "net/" + family + "/conf/" + device + "/" + key
}
