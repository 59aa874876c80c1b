package cluster

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"onlink/integration/lab"
)

// podNets returns the node's parts of the pods' ranges under [CNIPTP]: a /24, and
// a /64.
func (n *Node) podNets() []netip.Prefix {
	number := byte(1 + slices.Index(n.cluster.Nodes, n))
	var nets []netip.Prefix
	for _, pods := range n.cluster.Options.Pods {
		if pods.Addr().Is4() {
			a := pods.Addr().As4()
			a[2] = number
			nets = append(nets, netip.PrefixFrom(netip.AddrFrom4(a), 24))
		} else {
			a := pods.Addr().As16()
			a[7] = number
			nets = append(nets, netip.PrefixFrom(netip.AddrFrom16(a), 64))
		}
	}
	return nets
}

// conflist is the node's network configuration under [CNIPTP].
func (n *Node) conflist() string {
	var ranges, routes []any
	for _, p := range n.podNets() {
		ranges = append(ranges, []any{map[string]any{"subnet": p.String()}})
		all := netip.IPv4Unspecified()
		if p.Addr().Is6() {
			all = netip.IPv6Unspecified()
		}
		routes = append(routes, map[string]any{"dst": netip.PrefixFrom(all, 0).String()})
	}
	text, _ := json.Marshal(map[string]any{ // strings alone: never fails
		"cniVersion": "1.0.0", "name": "ptp",
		"plugins": []any{map[string]any{"type": "ptp", "ipam": map[string]any{"type": "host-local", "ranges": ranges, "routes": routes}}},
	})
	return string(text)
}

// addRoutes gives the node the static routes of [CNIPTP] to the pods of others.
func (n *Node) addRoutes() error {
	if n.cluster.Options.CNI != CNIPTP {
		return nil
	}
	for _, other := range n.cluster.Nodes {
		if other == n || other.Rack != n.Rack { // through the ToR otherwise
			continue
		}
		if err := addPodRoutes(n.NS, other, other.Addr, other.Addr6); err != nil {
			return err
		}
	}
	return nil
}

// addPodRoutes adds routes to a node's pods through a gateway of each family.
func addPodRoutes(ns *lab.NS, n *Node, gateway, gateway6 netip.Addr) error {
	for _, p := range n.podNets() {
		via := gateway
		if p.Addr().Is6() {
			via = gateway6
		}
		if err := ns.AddRoute(p, via, unix.RTPROT_STATIC); err != nil {
			return err
		}
	}
	return nil
}

// routePods adds the static routes of [CNIPTP] to nodes, ToRs and hosts.
func (c *Cluster) routePods() error {
	if c.Options.CNI != CNIPTP {
		return nil
	}
	for _, n := range c.Nodes {
		if err := errors.Join(n.addRoutes(), c.routePodsOf(n)); err != nil {
			return err
		}
	}
	return nil
}

// routePodsOf adds the routes to a node's pods to ToRs and hosts.
func (c *Cluster) routePodsOf(n *Node) error {
	rack := c.Lab.Racks[n.Rack-1]
	for _, t := range c.Lab.ToRs() {
		via, via6 := n.Addr, n.Addr6
		if t.Number != n.Rack {
			via, via6 = rack.ToRs[0].Core, rack.ToRs[0].Core6
		}
		if err := addPodRoutes(t.NS, n, via, via6); err != nil {
			return err
		}
	}
	for _, host := range []*lab.Host{c.Control, c.Client} {
		for _, p := range n.podNets() {
			if err := host.Through(p, rack.ToRs...); err != nil {
				return err
			}
		}
	}
	return nil
}

// routeRacks gives the ToRs static routes to each other's racks, which BIRD's
// routes (of a lower preference) do not replace.
func (c *Cluster) routeRacks() error {
	for _, t := range c.Lab.ToRs() {
		for _, rack := range c.Lab.Racks {
			if rack.Number == t.Number {
				continue
			}
			near, n := rack.ToRs[0], rack.Nodes[0]
			if err := t.NS.AddRoute(netip.PrefixFrom(n.Addr, 24).Masked(), near.Core, unix.RTPROT_STATIC); err != nil {
				return err
			}
			if !n.Addr6.IsValid() {
				continue
			}
			if err := t.NS.AddRoute(netip.PrefixFrom(n.Addr6, 64).Masked(), near.Core6, unix.RTPROT_STATIC); err != nil {
				return err
			}
		}
	}
	return nil
}
