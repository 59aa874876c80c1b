package pod

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/dump"
	"onlink/internal/ours"
	"onlink/internal/rtnl"
	"onlink/sysctl"
)

// check compares the kernel with w and returns one line for each difference; none
// means that the attachment is complete.
func (w *Wiring) check(th *thread) ([]string, error) {
	var found []string
	err := th.inside(w.NetnsFile, func(h *netlink.Handle) (err error) {
		found, err = w.checkPod(h)
		return err
	})
	if err != nil {
		return nil, err
	}
	host, err := w.checkHost(th)
	return append(found, host...), err
}

// report collects problems of one interface.
type report struct {
	where string
	lines []string
}

func (r *report) add(format string, args ...any) {
	r.lines = append(r.lines, r.where+": "+fmt.Sprintf(format, args...))
}

func (w *Wiring) checkPod(h *netlink.Handle) ([]string, error) {
	r := report{where: "pod interface " + w.IfName}
	link, err := findLink(h, w.IfName)
	if err != nil {
		return nil, err
	}
	if link == nil {
		r.add("missing")
		return r.lines, nil
	}
	r.link(link, w.MAC, w.MTU)
	if err := w.checkAddresses(h, link, &r); err != nil {
		return nil, err
	}
	for _, g := range w.Gateways() {
		if err := checkGateway(h, link, g, &r); err != nil {
			return nil, err
		}
	}
	if w.has6() {
		r.sysctl("ipv6", link, "disable_ipv6", "0")
		r.sysctl("ipv6", link, "accept_ra", "0")
	}
	w.checkSysctls(&r)
	return r.lines, nil
}

func (w *Wiring) checkHost(th *thread) ([]string, error) {
	r := report{where: "host interface " + w.hostDevice}
	link, err := findLink(th.links, w.hostDevice)
	if err != nil {
		return nil, err
	}
	if link == nil {
		r.add("missing")
		return r.lines, nil
	}
	r.link(link, hostMAC, w.MTU)
	if want := w.Alias(); link.Attrs().Alias != want {
		r.add("alias is %q, want %q", link.Attrs().Alias, want)
	}
	for _, a := range w.Addresses {
		if err := w.checkHostRoute(th, link, a, &r); err != nil {
			return nil, err
		}
		if err := checkNeighbour(th.links, link, a, w.MAC, &r); err != nil {
			return nil, err
		}
	}
	r.sysctl("ipv4", link, "forwarding", "1")
	r.sysctl("ipv4", link, "rp_filter", "1")
	// Not route_localnet: the plugin portmap, chained behind, sets it.
	if w.has6() {
		r.sysctl("ipv6", link, "forwarding", "1")
	}
	return r.lines, nil
}

func (r *report) link(link netlink.Link, mac net.HardwareAddr, mtu int) {
	a := link.Attrs()
	if link.Type() != "veth" {
		r.add("is of kind %s, want veth", link.Type())
	}
	if a.Flags&net.FlagUp == 0 {
		r.add("is down")
	}
	if !bytes.Equal(a.HardwareAddr, mac) {
		r.add("MAC address is %s, want %s", a.HardwareAddr, mac)
	}
	if mtu != 0 && a.MTU != mtu {
		r.add("MTU is %d, want %d", a.MTU, mtu)
	}
}

func (w *Wiring) checkAddresses(h *netlink.Handle, link netlink.Link, r *report) error {
	list, err := dump.Addrs(h, link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("%s: %w", w.IfName, err)
	}
	for _, want := range w.Addresses {
		prefix := netip.PrefixFrom(want, want.BitLen()).String()
		if !slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IPNet.String() == prefix }) {
			r.add("address %s missing", prefix)
		}
	}
	return nil
}

// checkGateway looks for the link route (IPv4), the default route and the
// neighbour entry of one gateway.
func checkGateway(h *netlink.Handle, link netlink.Link, g netip.Addr, r *report) error {
	routes, err := dump.Routes(h, int(rtnl.Family(g)), &netlink.Route{LinkIndex: link.Attrs().Index}, netlink.RT_FILTER_OIF)
	if err != nil {
		return fmt.Errorf("%s: %w", link.Attrs().Name, err)
	}
	isDefault := func(rt netlink.Route) bool {
		if rt.Dst != nil {
			if ones, _ := rt.Dst.Mask.Size(); ones != 0 {
				return false
			}
		}
		return rt.Gw.Equal(g.AsSlice())
	}
	if !slices.ContainsFunc(routes, isDefault) {
		r.add("default route via %s missing", g)
	}
	toGateway := func(rt netlink.Route) bool {
		return rt.Dst != nil && rt.Dst.String() == netip.PrefixFrom(g, g.BitLen()).String() && rt.Scope == netlink.SCOPE_LINK
	}
	if g.Is4() && !slices.ContainsFunc(routes, toGateway) {
		r.add("route to %s missing", g)
	}
	return checkNeighbour(h, link, g, hostMAC, r)
}

func checkNeighbour(h *netlink.Handle, link netlink.Link, a netip.Addr, mac net.HardwareAddr, r *report) error {
	list, err := dump.Neighbours(h, link.Attrs().Index, int(rtnl.Family(a)))
	if err != nil {
		return fmt.Errorf("%s: %w", link.Attrs().Name, err)
	}
	i := slices.IndexFunc(list, func(n netlink.Neigh) bool { return n.IP.Equal(a.AsSlice()) })
	switch {
	case i < 0:
		r.add("neighbour %s missing", a)
	case !bytes.Equal(list[i].HardwareAddr, mac) || list[i].State != unix.NUD_PERMANENT:
		r.add("neighbour %s is %s (state %#x), want %s permanent", a, list[i].HardwareAddr, list[i].State, mac)
	}
	return nil
}

func (w *Wiring) checkHostRoute(th *thread, link netlink.Link, a netip.Addr, r *report) error {
	routes, err := w.routesTo(th, a)
	if err != nil {
		return err
	}
	isOwn := func(rt netlink.Route) bool {
		return rt.Protocol == ours.Protocol && rt.LinkIndex == link.Attrs().Index && rt.Gw == nil
	}
	switch {
	case len(routes) == 0:
		r.add("host route to %s missing", a)
	case !slices.ContainsFunc(routes, isOwn):
		r.add("host route to %s is another: %s", a, routes[0])
	}
	return nil
}

// sysctl compares one setting of an interface in the current namespace.
func (r *report) sysctl(family string, link netlink.Link, key, want string) {
	got, err := sysctl.Read(confName(family, link.Attrs().Name, key))
	if err != nil {
		r.add("sysctl %s.%s: %v", family, key, err)
		return
	}
	if got != want {
		r.add("sysctl %s.%s is %s, want %s", family, key, got, want)
	}
}
