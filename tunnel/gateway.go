package tunnel

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/dump"
	"onlink/internal/ours"
)

// addGateways enables routes over a tunnel with an IPv6 underlay.
//
// A route through a tunnel names the far node as its gateway. IPv4 accepts any
// gateway marked on-link (RTNH_F_ONLINK). IPv6 rejects one for which table main
// has another device, by the connected network or by any route but the default
// one (ip6_route_check_nh_onlink). It accepts one that a lookup with the tunnel
// as output device finds on that device, so a rule for just such lookups leads to
// a table in which everything is behind the tunnel. The outer packets are looked
// up without an output device and never meet it.
func addGateways(h *netlink.Handle, d Desired, l netlink.Link) error {
	if !d.Local.Is6() {
		return nil
	}
	rules, err := gatewayRules(h, d.Name)
	if err != nil {
		return err
	}
	if len(rules) == 0 {
		if err := h.RuleAdd(gatewayRule(d.Name)); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add rule for gateways: %w", err)
		}
	}
	all := &netlink.Route{
		LinkIndex: l.Attrs().Index, Table: ours.GatewayTable, Protocol: ours.Protocol, Scope: unix.RT_SCOPE_UNIVERSE,
		Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
	}
	have, err := dump.Routes(h, netlink.FAMILY_V6, all, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_OIF)
	if err != nil && !errors.Is(err, dump.ErrInterrupted) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("routes for gateways: %w", err)
	}
	if len(have) > 0 {
		return nil
	}
	if err := h.RouteAppend(all); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add route for gateways: %w", err)
	}
	return nil
}

// removeGateways removes the rule of a device; the route goes with the device.
func removeGateways(h *netlink.Handle, name string) error {
	rules, err := gatewayRules(h, name)
	if err != nil {
		return err
	}
	for range rules {
		if err := h.RuleDel(gatewayRule(name)); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove rule for gateways: %w", err)
		}
	}
	return nil
}

// gatewayRules lists the rules of a device.
func gatewayRules(h *netlink.Handle, name string) ([]netlink.Rule, error) {
	want := gatewayRule(name)
	list, err := dump.Rules(h, netlink.FAMILY_V6, want, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PRIORITY)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, fmt.Errorf("list rules: %w: no IPv6 policy rules (CONFIG_IPV6_MULTIPLE_TABLES)", ErrUnsupported)
	}
	if err != nil && !errors.Is(err, dump.ErrInterrupted) {
		return nil, err
	}
	var out []netlink.Rule
	for _, r := range list {
		if r.OifName == name && r.Table == ours.GatewayTable && r.Priority == ours.GatewayPriority {
			out = append(out, r)
		}
	}
	return out, nil
}

func gatewayRule(name string) *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.OifName, r.Table, r.Priority, r.Protocol = netlink.FAMILY_V6, name, ours.GatewayTable, ours.GatewayPriority, ours.Protocol
	return r
}
