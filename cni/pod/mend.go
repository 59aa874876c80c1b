package pod

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

// Faulty returns the attachments whose host ends differ from those that Connect
// made. A host end that is taken out of service has no fault.
func (h *Host) Faulty(ctx context.Context, all []Attachment) ([]Attachment, error) {
	links, err := h.listLinks(ctx, h.reaping)
	if err != nil {
		return nil, err
	}
	ends := map[string]netlink.Link{} // by the name that the device should have
	for _, link := range links {
		if isOurs(link) || ends[link.Attrs().Name] == nil {
			ends[rightName(link)] = link
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(a Attachment) bool {
		return fault(a, ends[HostDevice(a.ContainerID, a.IfName)]) == ""
	}), nil
}

// Mend restores a host end as Connect made it. It returns the fault, "" for none,
// and the reason if the fault remains.
func (h *Host) Mend(ctx context.Context, w *Wiring) (what string, err error) {
	err = h.reaping.do(ctx, func(th *thread) error {
		links, err := endsNamed(th, w.hostDevice)
		if err != nil {
			return err
		}
		var link netlink.Link
		if len(links) > 0 {
			link = links[0]
		}
		if what = fault(w.Attachment, link); what == "" {
			return nil
		}
		if link == nil {
			return errEndGone
		}
		if !isOurs(link) {
			return foreignDevice(link)
		}
		return w.restore(th, link)
	})
	return what, err
}

// rightName returns the name that ADD gave a device of ours, by its alias.
func rightName(link netlink.Link) string {
	at := link.Attrs()
	if f := strings.Fields(at.Alias); isOurs(link) && len(f) == 4 && f[0]+" " == ours.HostAliasPrefix {
		return HostDevice(f[2], f[3])
	}
	return at.Name
}

// fault returns the fault of an attachment's host end, "" for none. A host end
// that is taken out of service has no fault.
func fault(a Attachment, link netlink.Link) string {
	if link == nil {
		if a.Netns == "" || NetnsGone(a.Netns) {
			return "" // the pod has ended, or may have
		}
		return "is gone"
	}
	at := link.Attrs()
	_, aliased := parseAlias(at.Alias, HostDevice(a.ContainerID, a.IfName))
	switch {
	case at.Group == ours.PodEnded || at.Group == ours.PodRemoving:
		return ""
	case !isOurs(link) && !aliased:
		return "is gone, and another device has its name"
	case at.Name != HostDevice(a.ContainerID, a.IfName):
		return "was renamed to " + at.Name
	case at.Group != ours.PodServing:
		return fmt.Sprintf("was put into group %d", at.Group)
	case at.Flags&net.FlagUp == 0:
		return "was set down"
	case !aliased:
		return fmt.Sprintf("was given the alias %q", at.Alias)
	}
	return ""
}

// errEndGone: the host end no longer exists, and so the pod has no interface
// either.
var errEndGone = errors.New("the pod has no network: delete it")

// endsNamed returns the devices whose right name is the given one, ours first.
func endsNamed(th *thread, device string) ([]netlink.Link, error) {
	link, err := findLink(th.links, device)
	if err != nil || link != nil && isOurs(link) {
		return []netlink.Link{link}, err
	}
	all, err := listAll(th)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(l netlink.Link) bool { return rightName(l) != device }), nil
}

// restore puts name, group, alias, state, routes and neighbours of a host end
// back: the kernel dropped the last two when the device went down.
func (w *Wiring) restore(th *thread, link netlink.Link) error {
	at := link.Attrs()
	w.hostIndex = int32(at.Index)
	if netns, err := openNetns(w.Attachment.Netns, th.home); err == nil {
		w.NetnsFile = netns
		pod, err := w.podLink(th) // it may have another MAC address than we choose
		_ = netns.Close()
		if err == nil && pod != nil && len(pod.Attrs().HardwareAddr) == 6 {
			w.MAC = pod.Attrs().HardwareAddr
		}
	}
	m := rtnl.Batch{}
	if at.Name != w.hostDevice {
		m.Add("set "+at.Name+" down to rename it", unix.RTM_NEWLINK, 0)
		m.Link(rtnl.Link{Index: w.hostIndex, Change: unix.IFF_UP})
		m.Add("rename "+at.Name+" to "+w.hostDevice, unix.RTM_NEWLINK, 0)
		m.Link(rtnl.Link{Index: w.hostIndex})
		m.AttrString(unix.IFLA_IFNAME, w.hostDevice)
	}
	m.Add("mark "+w.hostDevice+" as a pod's", unix.RTM_NEWLINK, 0)
	m.Link(rtnl.Link{Index: w.hostIndex})
	m.AttrUint32(unix.IFLA_GROUP, ours.PodServing)
	if err := th.host.exec(&m); err != nil {
		return err
	}
	if w.has6() {
		if err := setIPv6(w.hostDevice, false); err != nil {
			return err
		}
	}
	return w.hostRoutes(th, th.host.exec(w.hostBatch()))
}
