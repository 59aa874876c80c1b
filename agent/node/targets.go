package node

import (
	"net/netip"

	"onlink/agent/config"
)

// anywhere are addresses that only a default route covers: TEST-NET-1 (RFC
// 5737) and the documentation prefix (RFC 3849).
var anywhere = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}

// Targets lists the destinations of the node's address, the most significant
// first: the other nodes it has sessions with, routers, the registry, clients, and
// last the default route.
func Targets(c *config.Config) []netip.Addr {
	var out []netip.Addr
	add := func(a netip.Addr) {
		if a.IsValid() && !a.IsUnspecified() && !a.IsLinkLocalUnicast() {
			out = append(out, a.Unmap())
		}
	}
	if c.BGP.Mesh != nil {
		for _, n := range c.BGP.Mesh.Nodes {
			add(n.Address)
		}
	}
	for _, external := range []bool{false, true} {
		for _, p := range c.BGP.Peers {
			if p.External(c.BGP.ASN) == external && !p.Unnumbered {
				add(p.Address)
			}
		}
	}
	r := c.IPAM.Registry
	add(r.Listen.Addr())
	for _, text := range r.Addresses {
		if at, err := netip.ParseAddrPort(text); err == nil { // a host name is not resolved yet
			add(at.Addr())
		}
	}
	if c.BGP.Reflector != nil {
		for _, p := range c.BGP.Reflector.Clients {
			add(someHost(p))
		}
	}
	return append(out, anywhere...)
}

// someHost returns an address of a client range that a client may have.
func someHost(p netip.Prefix) netip.Addr {
	if p.IsSingleIP() {
		return p.Addr()
	}
	return p.Addr().Next()
}
