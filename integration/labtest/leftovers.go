package labtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"

	"onlink/integration/lab"
	"onlink/nft"
)

// ErrRules is the error of [Traces] when nftables rules or elements of a pod
// remain.
var ErrRules = errors.New("rules are left")

// Leftovers returns an error when a node whose pods were all deleted still has
// [Traces] of one, or a namespace that the agent holds open.
func Leftovers(ctx context.Context, n *lab.Node) error {
	if err := Traces(ctx, n); err != nil {
		return err
	}
	return openNamespaces(n.Process().Pid())
}

// Traces returns an error when a node without pods has an address, interface,
// route or nftables element of one.
func Traces(ctx context.Context, n *lab.Node) error {
	st, err := n.Status(ctx)
	if err != nil {
		return err
	}
	if used := st.GetAddressesUsed(); used != 0 {
		return fmt.Errorf("%d addresses are assigned", used)
	}
	links, err := n.NS.Link.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		if strings.HasPrefix(link.Attrs().Alias, "onlink lab/") || link.Attrs().Group >= 0x4f4c0000 {
			return fmt.Errorf("interface %s is left", link.Attrs().Name)
		}
	}
	routes, err := n.NS.Link.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: RouteProtocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if ones, bits := r.Dst.Mask.Size(); ones == bits {
			return fmt.Errorf("route %v is left", r)
		}
	}
	return n.NS.Do(func() error {
		senders, err := nft.CountSenders()
		if errors.Is(nft.SupportsSenders(), nft.ErrUnsupported) {
			return nil
		}
		if err == nil && senders != 0 {
			err = fmt.Errorf("%w: %d MAC addresses may send", ErrRules, senders)
		}
		return err
	})
}

// openNamespaces returns an error when a process holds a network namespace open
// that is not its own.
func openNamespaces(pid int) error {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	for _, pattern := range []string{"/proc/%d/fd/*", "/proc/%d/task/*/ns/net"} {
		paths, err := filepath.Glob(fmt.Sprintf(pattern, pid))
		if err != nil {
			return err
		}
		for _, path := range paths {
			// A descriptor may be closed meanwhile.
			if to, err := os.Readlink(path); err == nil && strings.HasPrefix(to, "net:[") && to != own {
				return fmt.Errorf("%s is %s, the agent's own is %s", path, to, own)
			}
		}
	}
	return nil
}
