package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"onlink/integration/lab"
)

// PodNS opens the network namespace of a running pod; [lab.NS.Leave] closes it. It
// knows the namespace by the pod's address.
func (c *Cluster) PodNS(p corev1.Pod) (*lab.NS, error) {
	n := c.Node(p.Spec.NodeName)
	if n.PID() == 0 {
		return nil, fmt.Errorf("open namespace of pod %s: %w", p.Name, errOff)
	}
	address, err := PodAddr(p, false)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/root/run/netns/*", n.PID()))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		ns, err := lab.OpenNS(p.Name, file)
		if errors.Is(err, os.ErrNotExist) {
			continue // another pod ended
		}
		if err != nil {
			return nil, err
		}
		addrs, err := ns.Link.AddrList(nil, netlink.FAMILY_V4)
		if err == nil && slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.IP.String() == address.String() }) {
			return ns, nil
		}
		if err := errors.Join(err, ns.Leave()); err != nil {
			return nil, fmt.Errorf("read addresses of %s on %s: %w", file, n.Name, err)
		}
	}
	return nil, fmt.Errorf("no namespace of %s has the address %s of pod %s", n.Name, address, p.Name)
}
