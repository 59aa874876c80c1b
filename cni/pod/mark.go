package pod

import (
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/dump"
	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

// IsHostEnd reports whether a device is a pod's host end, from its group, its
// kind as ip-link(8) calls it, its name and its alias.
//
// A host end is known by its interface group ([ours.PodGroup]), which it has from
// the moment it exists, never by its name: an operator's uplink may be called
// onlan0. The group outlives the agent. One that a version without groups made
// is known by its alias until [Adopt].
func IsHostEnd(group uint32, kind, name, alias string) bool {
	if kind != "veth" {
		return false
	}
	if group&ours.PodGroupMask == ours.PodGroup {
		return true
	}
	_, named := parseAlias(alias, name)
	return named
}

// isOurs reports whether a link is a pod's host end.
func isOurs(link netlink.Link) bool {
	at := link.Attrs()
	return IsHostEnd(at.Group, link.Type(), at.Name, at.Alias)
}

// hostEnds maps host ends to their attachments: by the alias, or, where another
// program changed that, by the name, which follows from a known attachment.
type hostEnds map[string]Attachment // by host device

func hostEndsOf(known []Attachment) hostEnds {
	h := make(hostEnds, len(known))
	for _, a := range known {
		h[HostDevice(a.ContainerID, a.IfName)] = a
	}
	return h
}

// owner returns the attachment of a host end; false for any other link.
func (h hostEnds) owner(link netlink.Link) (Attachment, bool) {
	if !isOurs(link) {
		return Attachment{}, false
	}
	if a, ok := parseAlias(link.Attrs().Alias, link.Attrs().Name); ok {
		return a, true
	}
	a, ok := h[link.Attrs().Name]
	return a, ok
}

// unmarked returns the attachment of a host end without our group: an earlier
// agent's, which has the alias, or the veth of a known attachment whose agent was
// killed before it gave one.
func (h hostEnds) unmarked(link netlink.Link) (Attachment, bool) {
	at := link.Attrs()
	if link.Type() != "veth" || at.Group&ours.PodGroupMask == ours.PodGroup {
		return Attachment{}, false
	}
	if a, ok := parseAlias(at.Alias, at.Name); ok {
		return a, true
	}
	a, ok := h[at.Name]
	return a, ok && at.Alias == ""
}

// Adopt gives our group to the host ends that an earlier agent left without it,
// in the network namespace of the calling thread. It must come before the
// nftables rules, which match pods by it.
func Adopt(known []Attachment) error {
	h, err := newHandle()
	if err != nil {
		return err
	}
	defer h.Close()
	host, err := dialSocket(make([]byte, socketBuffer))
	if err != nil {
		return err
	}
	defer host.close()
	links, err := dump.Links(h)
	if err != nil {
		return err
	}
	return hostEndsOf(known).adopt(host, links)
}

func (h hostEnds) adopt(host *socket, links []netlink.Link) error {
	m := rtnl.Batch{}
	for _, link := range links {
		a, ok := h.unmarked(link)
		if !ok {
			continue
		}
		m.Add("mark "+link.Attrs().Name+" as a pod's", unix.RTM_NEWLINK, 0)
		m.Link(rtnl.Link{Index: int32(link.Attrs().Index)})
		m.AttrUint32(unix.IFLA_GROUP, ours.PodServing)
		if link.Attrs().Alias == "" {
			m.AttrString(unix.IFLA_IFALIAS, a.Alias())
		}
		link.Attrs().Group = ours.PodServing
	}
	return dropErrors(host.exec(&m), func(e *rtnl.Error) bool { return e.Errno == unix.ENODEV })
}

// foreignDevice returns an error that describes the device with the name of a
// host end.
func foreignDevice(link netlink.Link) error {
	at := link.Attrs()
	return fmt.Errorf("%w: %s is a %s in group %d with alias %q; rename or delete it", ErrNameTaken, at.Name, link.Type(), at.Group, strings.ToValidUTF8(at.Alias, "?"))
}

// senders returns the MAC addresses of the pods that a previous run wired, from
// the permanent neighbour entries of the host ends. The pod's end is no source:
// the pod may have changed it.
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
		if mac == nil { // another program removed the entry; CHECK reports that
			mac = MAC(a.ContainerID, a.IfName)
		}
		out[at.Name] = mac
	}
	return out
}
