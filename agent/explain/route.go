package explain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"onlink/fib"
	"onlink/fib/underlay"
	"onlink/internal/ours"
)

// Kernel is the kernel's routing, of the package underlay.
type Kernel interface {
	// Way returns the route that the kernel takes for a packet.
	Way(p underlay.Packet) (underlay.KernelRoute, error)
	// Trace finds the rule and the route that decide on a packet.
	Trace(p underlay.Packet) (underlay.Trace, error)
	// Source returns the way of a packet from this node to an address.
	Source(addr netip.Addr) (underlay.KernelRoute, error)
	// Gateways returns the members of a multipath route to an address; none: the
	// route is a plain one.
	Gateways(addr netip.Addr) ([]underlay.Gateway, error)
	// Device returns the state of a device.
	Device(name string) (underlay.LinkState, error)
	// Neighbours returns a device's neighbours.
	Neighbours(dev string) ([]underlay.Neighbour, error)
}

// routeLink compares the decision with the kernel's own answer for packets to the
// address: from the pod's device, as they come, and from the node itself.
type routeLink struct{ kernel Kernel }

func (l routeLink) check(_ context.Context, t *trail) {
	switch {
	case t.lost:
		return
	case t.place == outside:
		l.outside(t)
		return
	case t.place == here && !l.device(t):
		return
	}
	good := true
	if t.from.IsValid() {
		good = l.packet(t, underlay.Packet{From: t.from, To: t.To, In: t.source.HostDevice})
	}
	own := underlay.Packet{To: t.To}
	if t.From.Is4() && t.From.IsLoopback() {
		own.From = t.From // such as a port of the host that is mapped to the pod
	}
	if good && l.packet(t, own) {
		t.ok("kernel-route", "%s proto onlink", t.route.Prefix)
	}
}

// device looks at the host end of the pod's veth.
func (l routeLink) device(t *trail) bool {
	dev := t.pod.HostDevice
	state, err := l.kernel.Device(dev)
	switch {
	case errors.Is(err, underlay.ErrNoDevice):
		t.lost = true
		t.broken("kernel-route", PodDevice, "delete the pod, so that its runtime makes it anew; `onlinkctl ipam show` finds addresses of pods that are gone",
			"the host end %s of the pod's veth is gone: the pod's network namespace was removed without a CNI DEL", dev)
	case err == nil && !state.Up:
		t.lost = true
		t.broken("kernel-route", PodDevice, fmt.Sprintf("the agent sets it up within seconds; find the program that sets it down, or run `ip link set %s up`", dev),
			"the host end %s of the pod's veth is down: another program set it down", dev)
	case err == nil && !state.Carrier:
		t.lost = true
		t.broken("kernel-route", PodDevice, "set the pod's interface up (`ip link set eth0 up` in the pod), or delete the pod",
			"the host end %s of the pod's veth has no carrier: the pod's interface is down", dev)
	}
	return !t.lost
}

// outside is for addresses outside the pools that no peer announces: the node's
// own routes decide.
func (l routeLink) outside(t *trail) {
	why := "no peer announces it"
	if t.refused {
		why = "the import policy rejects the announcements of it (above)"
	}
	got, err := l.kernel.Source(t.To)
	if err != nil {
		t.lost = true
		if trace, found := l.trace(underlay.Packet{To: t.To}); found && trace.Route.Drops() {
			t.broken("kernel-route", RouteForeign, removal(trace.Route, netip.Prefix{}), "%s is in no pool, %s, and the node's own route %s drops the packets", t.To, why, routeText(trace.Route))
			return
		}
		t.broken("kernel-route", RouteNone, "add a route on the node, or let a peer announce it and name it in `import.accept`", "%s is in no pool, %s, and this node has no route to it (%s)", t.To, why, errnoText(err))
		return
	}
	text := "dev " + got.Dev
	if got.Via.IsValid() {
		text = fmt.Sprintf("via %s dev %s", got.Via, got.Dev)
	}
	t.ok("kernel-route", "%s", text)
	via := got.Via
	if !via.IsValid() {
		via = t.To
	}
	if !got.Self {
		t.hops = []way{{via: via, dev: got.Dev}}
	}
	t.good = fmt.Sprintf("%s is in no pool and %s: the node's own routes send it %s", t.To, why, text)
}

// packet adds what the kernel does with one packet, when that is not as decided.
func (l routeLink) packet(t *trail, p underlay.Packet) bool {
	got, err := l.kernel.Way(p)
	if err == nil && got.Protocol == ours.Protocol && got.Dst == t.route.Prefix && !got.Drops() {
		return true
	}
	t.lost = true
	who := "from this node"
	if p.In != "" {
		who = fmt.Sprintf("from the pod %s (%s, %s)", podName(t), p.From, p.In)
	}
	trace, found := l.trace(p)
	switch {
	case trace.Rule.Drops != "":
		t.broken("kernel-route", RoutePolicy, ruleFix(trace.Rule), "the policy rule %q drops packets %s to %s (%s)", ruleText(trace.Rule), who, t.To, trace.Rule.Drops)
	case found && trace.Rule.VRF:
		t.broken("kernel-route", RouteVRF, fmt.Sprintf("take %s out of the VRF (`ip link set %s nomaster`)", p.In, p.In),
			"packets %s are looked up in the table %d of a VRF that %s belongs to: %s takes them", who, trace.Rule.Table, p.In, routeText(trace.Route))
	case found && !trace.Rule.Common:
		t.broken("kernel-route", RoutePolicy, ruleFix(trace.Rule), "the policy rule %q diverts packets %s to %s: there %s takes them", ruleText(trace.Rule), who, t.To, routeText(trace.Route))
	case found && trace.Route.Protocol == ours.Protocol && trace.Route.Dst == t.route.Prefix && err != nil:
		l.refused(t, err, who, p)
	case found && trace.Route.Protocol == ours.Protocol:
		t.broken("kernel-route", RouteMissing, "the agent writes it again within seconds; when it does not, see `onlinkctl status`",
			"the kernel lacks the decided route %s of onlink, and %s takes packets %s to %s", t.route.Prefix, routeText(trace.Route), who, t.To)
	case found && trace.Route.Dst.Bits() < t.route.Prefix.Bits():
		t.broken("kernel-route", RouteMissing, "the agent writes it again within seconds; when it does not, see `onlinkctl status`",
			"the kernel lacks the decided route %s, and %s, which is not onlink's, takes packets %s to %s", t.route.Prefix, routeText(trace.Route), who, t.To)
	case found:
		t.broken("kernel-route", RouteForeign, removal(trace.Route, t.route.Prefix), "a route that is not onlink's takes packets %s to %s: %s (onlink's is %s)", who, t.To, routeText(trace.Route), t.route.Prefix)
	default:
		t.broken("kernel-route", RouteMissing, "the agent writes it again within seconds; when it does not, see `onlinkctl status`",
			"the kernel has no route for packets %s to %s (%s), though %s is decided", who, t.To, errnoText(err), t.route.Prefix)
	}
	return false
}

// refused is for a packet that the kernel refuses although the right route is
// there.
func (l routeLink) refused(t *trail, err error, who string, p underlay.Packet) {
	switch {
	case errors.Is(err, unix.EINVAL) && p.From.Is4() && p.From.IsLoopback():
		t.broken("kernel-route", HostLocalnet, fmt.Sprintf("set net.ipv4.conf.%s.route_localnet=1, as CNI's portmap does for ports of 127.0.0.1, or use another address of this node", t.device()),
			"the kernel sends no packet with the source address %s through %s: route_localnet is 0 there", p.From, t.device())
	case errors.Is(err, unix.EINVAL) && p.In != "" && l.local(p.From):
		t.broken("kernel-route", HostAcceptLocal, fmt.Sprintf("remove the address from this node (`ip addr show to %s`), and find the program that added it", p.From),
			"the kernel drops packets %s: their source %s is an address of this node itself, and net.ipv4.conf.%s.accept_local is 0", who, p.From, p.In)
	case errors.Is(err, unix.EXDEV):
		t.broken("kernel-route", HostReversePath, "see net.ipv4.conf.*.rp_filter of the device, and the route back to the source",
			"the kernel rejects packets %s to %s by the reverse path filter (rp_filter): the way back to the source is another device (%s)", who, t.To, errnoText(err))
	case errors.Is(err, unix.EHOSTUNREACH) && t.To.Is4():
		t.broken("kernel-route", HostForwarding, "set net.ipv4.ip_forward=1, and find the program that turns it off (sysctl.d, a firewall)",
			"this node has the right route for %s, but does not forward packets %s: forwarding is off (%s)", t.To, who, errnoText(err))
	default:
		t.broken("kernel-route", RouteRefused, "see the error", "the kernel rejects packets %s to %s although the route %s is there: %s", who, t.To, t.route.Prefix, errnoText(err))
	}
}

// local reports whether an address is one of this node itself.
func (l routeLink) local(addr netip.Addr) bool {
	got, err := l.kernel.Source(addr)
	return err == nil && got.Self
}

// device returns the device that packets leave through, of the first next hop.
func (t *trail) device() string {
	if t.place == here || len(t.hops) == 0 {
		return t.pod.HostDevice
	}
	return t.hops[0].dev
}

// trace returns the rule and route of a packet; found: there is a route.
func (l routeLink) trace(p underlay.Packet) (trace underlay.Trace, found bool) {
	trace, err := l.kernel.Trace(p)
	return trace, err == nil && trace.Found
}

func podName(t *trail) string { return t.source.Namespace + "/" + t.source.Pod }

// errnoText returns the kernel's refusal in words.
func errnoText(err error) string {
	for _, e := range []struct {
		errno error
		text  string
	}{
		{unix.EINVAL, "EINVAL: as for a blackhole route"},
		{unix.EHOSTUNREACH, "EHOSTUNREACH: as for an unreachable route, or a device that does not forward"},
		{unix.EACCES, "EACCES: as for a prohibit route"},
		{unix.ENETUNREACH, "ENETUNREACH: no route"},
		{unix.EXDEV, "EXDEV: the reverse path filter"},
	} {
		if errors.Is(err, e.errno) {
			return e.text
		}
	}
	if err == nil {
		return "another route"
	}
	return err.Error()
}

// routeText renders a route as ip-route(8) does.
func routeText(r underlay.KernelRoute) string {
	text := r.Dst.String()
	if r.Type != unix.RTN_UNICAST {
		text = r.TypeName() + " " + text
	}
	if r.Via.IsValid() {
		text += " via " + r.Via.String()
	}
	if r.Dev != "" && !r.Drops() {
		text += " dev " + r.Dev
	}
	text += " proto " + fib.ProtocolName(r.Protocol)
	if r.Metric != 0 {
		text += fmt.Sprintf(" metric %d", r.Metric)
	}
	if r.Table != unix.RT_TABLE_MAIN && r.Table != 0 {
		text += " table " + underlay.TableName(r.Table)
	}
	return text
}

// removal is the command that removes a route in the way of one to ours. Another metric
// helps only where both have one prefix: the longer one always wins.
func removal(r underlay.KernelRoute, ours netip.Prefix) string {
	ip, metric := "ip", ""
	if r.Dst.Addr().Is6() {
		ip = "ip -6"
	}
	if r.Dst == ours {
		metric = " or change its metric"
	}
	return fmt.Sprintf("remove it (`%s route del %s`)%s, and find the program that adds it (protocol %s)", ip, routeText(r), metric, fib.ProtocolName(r.Protocol))
}

func ruleText(r underlay.Rule) string { return fmt.Sprintf("%d: %s", r.Priority, r.Text) }

func ruleFix(r underlay.Rule) string {
	return fmt.Sprintf("remove the rule (`ip rule del pref %d`, for IPv6 `ip -6 rule del pref %d`), or add a rule before it that looks up table main for the pools", r.Priority, r.Priority)
}
