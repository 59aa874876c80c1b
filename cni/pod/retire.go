package pod

import (
	"errors"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

// removeEnded removes the veths with these host ends in one operation. They are
// named, not numbered: a number may be another interface's by now, but the name
// is the attachment's own, and no ADD of it begins before this is done. An absent
// veth is removed already.
func removeEnded(th *thread, names []string) error {
	m := rtnl.Batch{}
	for _, name := range names {
		m.Add("set group of "+name, unix.RTM_NEWLINK, 0)
		m.Link(rtnl.Link{})
		m.AttrString(unix.IFLA_IFNAME, name)
		m.AttrUint32(unix.IFLA_GROUP, ours.PodRemoving)
	}
	m.Add("remove ended veths", unix.RTM_DELLINK, 0)
	m.Link(rtnl.Link{})
	m.AttrUint32(unix.IFLA_GROUP, ours.PodRemoving)
	return dropErrors(th.host.exec(&m), func(e *rtnl.Error) bool { return e.Errno == unix.ENODEV })
}

// retireDevice takes an attachment's veth out of service: the host end goes
// down, and with it every route to the pod, and the pod's end loses its
// carrier. It reports whether there was one.
func retireDevice(th *thread, a Attachment) (bool, error) {
	name := HostDevice(a.ContainerID, a.IfName)
	link, err := findLink(th.links, name)
	if err != nil || link == nil {
		return false, err
	}
	if !isOurs(link) {
		return false, foreignDevice(link)
	}
	m := rtnl.Batch{}
	m.Add("take "+name+" out of service", unix.RTM_NEWLINK, 0)
	m.Link(rtnl.Link{Index: int32(link.Attrs().Index), Change: unix.IFF_UP})
	m.AttrUint32(unix.IFLA_GROUP, ours.PodEnded)
	if alias := a.Alias(); link.Attrs().Alias != alias && len(alias) <= MaxAlias { // a crashed ADD's; a restarted agent needs the alias to find the attachment
		m.AttrString(unix.IFLA_IFALIAS, alias)
	}
	err = th.host.exec(&m)
	if errors.Is(err, unix.ENODEV) { // its namespace ended just now
		return false, nil
	}
	return err == nil, err
}
