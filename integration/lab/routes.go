package lab

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// KernelRoute is one route of table main as the kernel holds it.
type KernelRoute struct {
	Prefix   netip.Prefix
	Type     string // unicast or blackhole, as in ip-route(8)
	Protocol int
	Metric   int
	Hops     []KernelHop
}

// KernelHop is one member of a route.
type KernelHop struct {
	Via    netip.Addr // invalid: the destination is on the device itself
	Dev    string
	Onlink bool
}

// String renders the route as one line of `ip route`.
func (r KernelRoute) String() string {
	var b strings.Builder
	if r.Type != "unicast" {
		b.WriteString(r.Type + " ")
	}
	b.WriteString(r.Prefix.String())
	sep := " "
	if len(r.Hops) > 1 {
		sep = " nexthop "
	}
	for _, h := range r.Hops {
		b.WriteString(sep + h.String())
	}
	fmt.Fprintf(&b, " proto %d", r.Protocol)
	if r.Metric != 0 {
		fmt.Fprintf(&b, " metric %d", r.Metric)
	}
	return b.String()
}

// String renders the hop as in `ip route`.
func (h KernelHop) String() string {
	var parts []string
	if h.Via.IsValid() {
		parts = append(parts, "via "+h.Via.String())
	}
	if h.Dev != "" {
		parts = append(parts, "dev "+h.Dev)
	}
	if h.Onlink {
		parts = append(parts, "onlink")
	}
	return strings.Join(parts, " ")
}

// Routes returns the routes of one protocol in table main, IPv4 before IPv6,
// each family in order of its prefixes.
func (k *Kernel) Routes(protocol int) ([]KernelRoute, error) {
	names, err := k.linkNames()
	if err != nil {
		return nil, err
	}
	var out []KernelRoute
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		filter := &netlink.Route{Protocol: netlink.RouteProtocol(protocol)}
		list, err := k.Link.RouteListFiltered(family, filter, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return nil, fmt.Errorf("list routes in %s: %w", k.Name, err)
		}
		for _, r := range list {
			out = append(out, kernelRoute(r, names))
		}
	}
	slices.SortFunc(out, func(a, b KernelRoute) int {
		if c := a.Prefix.Addr().Compare(b.Prefix.Addr()); c != 0 {
			return c
		}
		return a.Prefix.Bits() - b.Prefix.Bits()
	})
	return out, nil
}

// kernelRoute turns netlink's route into ours.
func kernelRoute(r netlink.Route, names map[int]string) KernelRoute {
	k := KernelRoute{Type: "unicast", Protocol: int(r.Protocol), Metric: r.Priority}
	switch r.Type {
	case unix.RTN_UNICAST:
	case unix.RTN_BLACKHOLE:
		k.Type = "blackhole"
	default:
		k.Type = fmt.Sprintf("type-%d", r.Type)
	}
	if r.Dst != nil {
		a, _ := netip.AddrFromSlice(r.Dst.IP)
		ones, _ := r.Dst.Mask.Size()
		if r.Dst.IP.To4() != nil && len(r.Dst.Mask) == 4 {
			a = a.Unmap()
		}
		k.Prefix = netip.PrefixFrom(a, ones)
	}
	if len(r.MultiPath) == 0 && k.Type == "unicast" {
		k.Hops = []KernelHop{kernelHop(r.Gw, r.Via, r.LinkIndex, r.Flags, names)}
	}
	for _, h := range r.MultiPath {
		k.Hops = append(k.Hops, kernelHop(h.Gw, h.Via, h.LinkIndex, h.Flags, names))
	}
	return k
}

func kernelHop(gw []byte, via netlink.Destination, index, flags int, names map[int]string) KernelHop {
	h := KernelHop{Dev: names[index], Onlink: flags&unix.RTNH_F_ONLINK != 0}
	if v, ok := via.(*netlink.Via); ok && v != nil {
		gw = v.Addr
	}
	if a, ok := netip.AddrFromSlice(gw); ok {
		h.Via = a.Unmap()
	}
	return h
}

// linkNames maps device indexes to names.
func (k *Kernel) linkNames() (map[int]string, error) {
	links, err := k.Link.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list devices in %s: %w", k.Name, err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	return names, nil
}

// Devices returns the names of the namespace's devices that start with prefix.
func (k *Kernel) Devices(prefix string) ([]string, error) {
	names, err := k.linkNames()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range names {
		if strings.HasPrefix(n, prefix) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// Gateway is one way of a route; the zero Via means that the destination is on
// the device itself.
type Gateway struct {
	Via netip.Addr
	Dev string // may be empty when Via says it
}

// SetRoute adds or replaces a static route of table main through one or more
// gateways.
func (k *Kernel) SetRoute(dst netip.Prefix, ways ...Gateway) error {
	r := &netlink.Route{Dst: ipNet(dst), Protocol: unix.RTPROT_STATIC}
	for _, w := range ways {
		hop := &netlink.NexthopInfo{}
		switch {
		case !w.Via.IsValid():
		case w.Via.Is6() && dst.Addr().Is4(): // RFC 8950
			hop.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: w.Via.AsSlice()}
		default:
			hop.Gw = net.IP(w.Via.AsSlice())
		}
		if w.Dev != "" {
			link, err := k.link(w.Dev)
			if err != nil {
				return err
			}
			hop.LinkIndex = link.Attrs().Index
		}
		r.MultiPath = append(r.MultiPath, hop)
	}
	if len(ways) == 1 {
		r.Gw, r.Via, r.LinkIndex, r.MultiPath = r.MultiPath[0].Gw, r.MultiPath[0].Via, r.MultiPath[0].LinkIndex, nil
		if r.Gw == nil && r.Via == nil {
			r.Scope = unix.RT_SCOPE_LINK
		}
	}
	if err := k.Link.RouteReplace(r); err != nil {
		return fmt.Errorf("set route %s in %s: %w", dst, k.Name, err)
	}
	return nil
}

// RemoveRoute removes a static route that [Kernel.SetRoute] made.
func (k *Kernel) RemoveRoute(dst netip.Prefix) error {
	if err := k.Link.RouteDel(&netlink.Route{Dst: ipNet(dst), Protocol: unix.RTPROT_STATIC}); err != nil {
		return fmt.Errorf("remove route %s in %s: %w", dst, k.Name, err)
	}
	return nil
}

// addRoute adds a route through one or more gateways.
func (k *Kernel) addRoute(dst netip.Prefix, gateways ...netip.Addr) error {
	r := &netlink.Route{Dst: ipNet(dst), Protocol: unix.RTPROT_STATIC}
	if len(gateways) == 1 {
		r.Gw = gateways[0].AsSlice()
	} else {
		for _, g := range gateways {
			r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{Gw: g.AsSlice()})
		}
	}
	if err := k.Link.RouteAdd(r); err != nil {
		return fmt.Errorf("add route %s in %s: %w", dst, k.Name, err)
	}
	return nil
}

// AddRoute adds a static route through a gateway, or with an invalid gateway a
// blackhole, with the given protocol: somebody else's route.
func (k *Kernel) AddRoute(dst netip.Prefix, gateway netip.Addr, protocol int) error {
	r := &netlink.Route{Dst: ipNet(dst), Protocol: netlink.RouteProtocol(protocol)}
	if gateway.IsValid() {
		r.Gw = gateway.AsSlice()
	} else {
		r.Type = unix.RTN_BLACKHOLE
	}
	if err := k.Link.RouteAdd(r); err != nil {
		return fmt.Errorf("add route %s in %s: %w", dst, k.Name, err)
	}
	return nil
}

// DeleteRoute removes one route of that protocol by hand.
func (k *Kernel) DeleteRoute(dst netip.Prefix, protocol int) error {
	filter := &netlink.Route{Dst: ipNet(dst), Protocol: netlink.RouteProtocol(protocol)}
	family := unix.AF_INET
	if dst.Addr().Is6() {
		family = unix.AF_INET6
	}
	list, err := k.Link.RouteListFiltered(family, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_DST)
	if err != nil {
		return fmt.Errorf("find route %s in %s: %w", dst, k.Name, err)
	}
	if len(list) != 1 {
		return fmt.Errorf("find route %s in %s: %d routes of protocol %d", dst, k.Name, len(list), protocol)
	}
	// The key, the type and the scope are enough, and a next-hop object cannot be named here.
	del := &netlink.Route{Dst: list[0].Dst, Protocol: list[0].Protocol, Priority: list[0].Priority, Type: list[0].Type, Scope: list[0].Scope}
	if err := k.Link.RouteDel(del); err != nil {
		return fmt.Errorf("delete route %s in %s: %w", dst, k.Name, err)
	}
	return nil
}

// ReplaceRoute overwrites whatever route holds the prefix, as an operator with
// `ip route replace` does.
func (k *Kernel) ReplaceRoute(dst netip.Prefix, gateway netip.Addr, protocol int) error {
	r := &netlink.Route{Dst: ipNet(dst), Gw: gateway.AsSlice(), Protocol: netlink.RouteProtocol(protocol)}
	if err := k.Link.RouteReplace(r); err != nil {
		return fmt.Errorf("replace route %s in %s: %w", dst, k.Name, err)
	}
	return nil
}
