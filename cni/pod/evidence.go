package pod

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"onlink/dump"
	"onlink/internal/ours"
)

// Evidence is the kernel's state of pods' addresses, read without any database.
type Evidence struct {
	// Routed are the addresses of each host end, by its index: those whose host
	// routes lead to it. Of several routes to one address the one that the kernel
	// uses counts: in the given table, then with the lowest metric.
	Routed map[int][]netip.Addr
	// Drops are the drop routes: blocks and aggregates of a former run, the
	// longest first.
	Drops []netip.Prefix
}

// ListRouted reads the routes of onlink's protocol in every table: a former run
// may have used another one than table.
func ListRouted(table uint32) (*Evidence, error) {
	h, err := newHandle()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	filter := &netlink.Route{Table: unix.RT_TABLE_UNSPEC, Protocol: ours.Protocol}
	routes, err := dump.Routes(h, netlink.FAMILY_ALL, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, fmt.Errorf("protocol %d: %w", ours.Protocol, err)
	}
	out := &Evidence{Routed: map[int][]netip.Addr{}}
	best := map[netip.Addr]netlink.Route{}
	for _, r := range routes {
		dst, ok := destination(r)
		switch {
		case !ok:
		case r.Type == unix.RTN_BLACKHOLE:
			out.Drops = append(out.Drops, dst)
		case dst.IsSingleIP() && r.LinkIndex != 0 && len(r.Gw) == 0:
			if o, seen := best[dst.Addr()]; !seen || before(r, o, table) {
				best[dst.Addr()] = r
			}
		}
	}
	for addr, r := range best {
		out.Routed[r.LinkIndex] = append(out.Routed[r.LinkIndex], addr)
	}
	for _, addrs := range out.Routed {
		slices.SortFunc(addrs, netip.Addr.Compare)
	}
	slices.SortFunc(out.Drops, func(a, b netip.Prefix) int { return b.Bits() - a.Bits() })
	return out, nil
}

// before reports whether the kernel uses a rather than b.
func before(a, b netlink.Route, table uint32) bool {
	if first, second := a.Table == int(table), b.Table == int(table); first != second {
		return first
	}
	return a.Priority < b.Priority
}

func destination(r netlink.Route) (netip.Prefix, bool) {
	if r.Dst == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(r.Dst.IP)
	ones, bits := r.Dst.Mask.Size()
	addr = addr.Unmap()
	if !ok || bits != addr.BitLen() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr, ones), true
}

// ListNeighbours returns the addresses of each interface's permanent neighbour
// entries: ADD makes one for every address of a pod. It costs less than the
// routes, of which there may be very many.
func ListNeighbours() (map[int][]netip.Addr, error) {
	h, err := newHandle()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	list, err := dump.Neighbours(h, 0, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	out := map[int][]netip.Addr{}
	for _, n := range list {
		if addr, ok := netip.AddrFromSlice(n.IP); ok && n.State == unix.NUD_PERMANENT {
			out[n.LinkIndex] = append(out[n.LinkIndex], addr.Unmap())
		}
	}
	for _, addrs := range out {
		slices.SortFunc(addrs, netip.Addr.Compare)
	}
	return out, nil
}

// OwnAddresses returns the global addresses on the pod's own end: the remains of
// a pod whose host end was set down, and so lost its routes. The pod may have
// changed them; a caller must not take another pod's address because of them.
func (w Wired) OwnAddresses() ([]netip.Addr, error) {
	if w.Netns == "" {
		return nil, nil
	}
	ns, err := netns.GetFromPath(w.Netns)
	if err != nil {
		return nil, fmt.Errorf("open namespace %s: %w", w.Netns, err)
	}
	defer func() { _ = ns.Close() }() // only our reference
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink in %s: %w", w.Netns, err)
	}
	defer h.Close()
	link, err := findLink(h, w.IfName)
	if err != nil || link == nil {
		return nil, err
	}
	list, err := dump.Addrs(h, link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", w.IfName, w.Netns, err)
	}
	var out []netip.Addr
	for _, a := range list {
		addr, ok := netip.AddrFromSlice(a.IP)
		ones, bits := a.Mask.Size()
		if ok && ones == bits && a.Scope == unix.RT_SCOPE_UNIVERSE {
			out = append(out, addr.Unmap())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out, nil
}
