package preflight

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"onlink/agent/config"
	"onlink/bgp/bfd"
)

// listener is a TCP socket that the agent listens on.
type listener struct {
	field string
	at    netip.AddrPort
}

// listeners returns the TCP sockets of the configuration.
func listeners(c *config.Config) []listener {
	var out []listener
	add := func(field string, at netip.AddrPort) {
		if at.IsValid() && at.Port() != 0 {
			out = append(out, listener{field, at})
		}
	}
	if addr := c.BGP.Listen.Address; addr.IsValid() {
		add("bgp.listen", netip.AddrPortFrom(addr, c.BGP.Listen.Port))
	} else {
		add("bgp.listen", netip.AddrPortFrom(netip.IPv6Unspecified(), c.BGP.Listen.Port))
	}
	if c.IPAM.Registry.Served() {
		add("ipam.registry.listen", c.IPAM.Registry.Listen)
	}
	add("api.admin.tcp", c.API.Admin.TCP)
	add("api.metrics", c.API.Metrics)
	add("api.glass", c.API.Glass)
	return out
}

// clash reports whether the kernel lets only one of the two listen. "::" takes
// IPv4 too.
func (e listener) clash(o listener) bool {
	all := func(x, y netip.Addr) bool { return x.IsUnspecified() && (x.Is6() || y.Is4()) }
	a, b := e.at.Addr(), o.at.Addr()
	return e.at.Port() == o.at.Port() && (a == b || all(a, b) || all(b, a))
}

// endpoints rejects sockets in each other's place.
func (r *report) endpoints() {
	all := listeners(r.Config)
	for i, e := range all {
		for _, o := range all[:i] {
			if e.clash(o) {
				r.fail(e.field, "port %d is also that of %s, and the second of the two could not listen; use another port", e.at.Port(), o.field)
			}
		}
	}
	for _, address := range r.IPAM.Registry.Addresses {
		path, socket := strings.CutPrefix(address, "unix://")
		switch {
		case !socket:
		case path == r.API.Admin.Socket:
			r.fail("ipam.registry.address", "%s is this agent's own api.admin.socket, which serves no registry; write the socket of the registry", address)
		case path == r.CNI.Socket:
			r.fail("ipam.registry.address", "%s is this agent's own cni.socket, which serves no registry; write the socket of the registry", address)
		}
	}
	r.vxlanPort()
}

// The UDP ports of BFD (RFC 5881 section 4, RFC 5883 section 5).
const bfdSingle, bfdMulti = 3784, 4784

// vxlanPort rejects the UDP port of the BFD sessions: the second to open it fails.
func (r *report) vxlanPort() {
	if !slices.ContainsFunc(r.Pools, func(p config.Pool) bool {
		return p.Tunnel == config.TunnelVXLAN && p.Encapsulation != config.EncapNever
	}) {
		return
	}
	taken := map[uint16]bool{}
	note := func(b *bfd.Settings) {
		switch {
		case b == nil:
		case b.Hops == bfd.HopsMulti:
			taken[bfdMulti] = true
		default:
			taken[bfdSingle] = true
		}
	}
	for _, p := range r.BGP.Peers {
		note(p.BFD)
	}
	if m := r.BGP.Mesh; m != nil {
		note(m.Peer.BFD)
	}
	if port := r.Tunnel.VXLAN.Port; taken[port] {
		r.fail("tunnel.vxlan.port", "%d is the UDP port of BFD, which peers have configured; use another on all nodes, such as 4789", port)
	}
}

// registry rejects registries that nobody can serve: this agent, or none.
func (r *report) registry() {
	reg := r.IPAM.Registry
	seen := map[string]bool{}
	for i, address := range reg.Addresses {
		at := "ipam.registry.address"
		if len(reg.Addresses) > 1 {
			at = fmt.Sprintf("%s[%d]", at, i)
		}
		if seen[address] {
			r.fail(at, "%s is in the list twice; remove one", address)
		}
		seen[address] = true
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			continue // a unix socket
		}
		addr, err := netip.ParseAddr(host)
		if err != nil {
			continue // a name
		}
		r.registryAt(at, address, addr)
	}
}

func (r *report) registryAt(at, address string, addr netip.Addr) {
	reg := r.IPAM.Registry
	if addr.IsUnspecified() || addr.IsMulticast() || addr == broadcast {
		r.fail(at, "%s is no machine's address; write that of the registry", address)
		return
	}
	if address == reg.Listen.String() {
		return // of two registries that split the pools the one that is here
	}
	for _, e := range listeners(r.Config) {
		if ap, err := netip.ParseAddrPort(address); err == nil && e.at == ap {
			r.fail(at, "%s is this agent's own %s, which serves no registry; write the address of the registry", address, e.field)
			return
		}
	}
	r.registryHere(at, address, func(a netip.Addr) bool { return a == r.Node.Address.Addr }, addr)
}

// registryHere rejects a registry at one of this node's own addresses: an agent of
// kind grpc serves none. etcd may run beside the agent.
func (r *report) registryHere(at, address string, own func(netip.Addr) bool, addr netip.Addr) {
	if r.IPAM.Registry.Kind == "grpc" && own(addr) {
		r.fail(at, "%s is this node's own address, and an agent of kind grpc serves no registry: it would call itself; write kind: bolt with listen here, or the address of the agent that has it", address)
	}
}
