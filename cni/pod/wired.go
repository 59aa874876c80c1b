package pod

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/dump"
	"onlink/internal/ours"
)

// Wired is one pod's interface as the kernel shows it, made by any agent: a lost
// database is rebuilt from these.
type Wired struct {
	// Attachment is read from the host end's alias. Its Netns is found among
	// the named namespaces; empty when it has no name there. Names of pods may
	// be cut short.
	Attachment
	HostDevice string
	Index      int // of the host end
	MTU        int // of the host end, in bytes
	// Ended reports that DEL has taken the interface out of service: it has no
	// address any more.
	Ended bool
}

// netnsFolders are the folders in which runtimes name network namespaces.
var netnsFolders = []string{"/run/netns", "/run/docker/netns"}

// ListWired returns the pods' interfaces in the network namespace of the
// calling thread: veths whose alias and name onlink wrote.
func ListWired() ([]Wired, error) {
	h, err := newHandle()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	links, err := dump.Links(h)
	if err != nil {
		return nil, err
	}
	var out []Wired
	var peers []int // namespace ID of each one's other end
	for _, link := range links {
		at := link.Attrs()
		a, named := parseAlias(at.Alias, at.Name)
		if !named || !isOurs(link) {
			continue
		}
		out = append(out, Wired{Attachment: a, HostDevice: at.Name, Index: at.Index, MTU: at.MTU, Ended: at.Group == ours.PodEnded || at.Group == ours.PodRemoving})
		peers = append(peers, at.NetNsID)
	}
	if len(out) == 0 {
		return nil, nil
	}
	paths := namedNetns(h)
	for i := range out {
		out[i].Netns = paths[peers[i]]
	}
	return out, nil
}

// namedNetns maps the namespace IDs of the calling thread's namespace to paths.
func namedNetns(h *netlink.Handle) map[int]string {
	paths := map[int]string{}
	for _, folder := range netnsFolders {
		names, err := filepath.Glob(folder + "/*")
		if err != nil {
			continue
		}
		for _, path := range names {
			f, err := os.Open(path)
			if err != nil {
				continue
			}
			if id, err := h.GetNetNsIdByFd(int(f.Fd())); err == nil && id >= 0 {
				paths[id] = path
			}
			f.Close()
		}
	}
	return paths
}

// Addresses returns the addresses whose host routes lead to the interface, in
// the given routing table.
func (w Wired) Addresses(table uint32) ([]netip.Addr, error) {
	h, err := newHandle()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	want := &netlink.Route{Table: int(table), Protocol: ours.Protocol, LinkIndex: w.Index}
	routes, err := dump.Routes(h, netlink.FAMILY_ALL, want, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_OIF)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, fmt.Errorf("routes to %s: %w", w.HostDevice, err)
	}
	var out []netip.Addr
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		ones, bits := r.Dst.Mask.Size()
		if ok && ones == bits {
			out = append(out, addr.Unmap())
		}
	}
	return out, nil
}
