package config

import (
	"fmt"
	"net/netip"
	"slices"

	"onlink/internal/strictyaml"
)

// Claim is a range that belongs to a network, a host or a service, not to pods.
type Claim struct {
	Prefix netip.Prefix
	What   string // its owner: "the network of eth0"
	Field  string // the field that gives it; "": no field does
	// Ours marks a network or an address of this node alone, which it may announce
	// (bgp.originate): all but those of its uplinks.
	Ours bool
}

// Overlaps returns the mistakes of a configuration whose pools or originated
// prefixes take a claimed range, the first 100; none: nil. The drop route of a
// block would cut the claim's owner off, and a pod could get its address.
func (c *Config) Overlaps(claims []Claim) Errors {
	var errs Errors
	for i, pool := range c.Pools {
		if len(errs) >= strictyaml.MaxMistakes {
			break
		}
		if claim, found := taken(pool.CIDR, claims); found {
			e := c.Places.Mistake(fmt.Sprintf("pools[%d].cidr", i), "%s overlaps %s, %s; pods need a range of their own: use another", pool.CIDR, claim.Prefix, claim.describe())
			if e.Line == 0 { // the default pool, which no line names
				e.Line = c.Places.Mistake(claim.Field, "").Line
			}
			errs = append(errs, e)
		}
	}
	for i, prefix := range c.BGP.Originate {
		if len(errs) >= strictyaml.MaxMistakes {
			break
		}
		at := slices.IndexFunc(claims, func(claim Claim) bool { return attracts(prefix, claim) })
		if at >= 0 {
			errs = append(errs, c.Places.Mistake(fmt.Sprintf("bgp.originate[%d]", i), "%s contains %s, %s: routers would send this node packets for others; announce a part without it, or remove it", prefix, claims[at].Prefix, claims[at].describe()))
		}
	}
	errs.Sort()
	return errs
}

// describe names the claim and its field.
func (c Claim) describe() string {
	if c.Field == "" {
		return c.What
	}
	return fmt.Sprintf("%s (%s)", c.What, c.Field)
}

// taken returns the first claim that a range overlaps.
func taken(p netip.Prefix, claims []Claim) (Claim, bool) {
	for _, claim := range claims {
		if p.IsValid() && claim.Prefix.Overlaps(p) {
			return claim, true
		}
	}
	return Claim{}, false
}

// attracts reports whether an originated prefix draws the packets for a claimed
// range. A default route does not, because every other route wins over it, nor
// does a part of a network: that may be a service's address.
func attracts(p netip.Prefix, claim Claim) bool {
	return !claim.Ours && p.Bits() > 0 && p.Bits() <= claim.Prefix.Bits() && p.Overlaps(claim.Prefix)
}

// claims returns the ranges that the configuration itself gives to other owners
// than pods.
func (c *Config) claims() []Claim {
	var out []Claim
	one := func(a netip.Addr, what, field string, ours bool) {
		if a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			a = a.Unmap()
			out = append(out, Claim{netip.PrefixFrom(a, a.BitLen()), what, field, ours})
		}
	}
	for i, p := range c.BGP.Peers {
		one(p.Address, "the address of peer "+p.Name, fmt.Sprintf("bgp.peers[%d].address", i), false)
		one(p.LocalAddress, "this node's end of the session with "+p.Name, fmt.Sprintf("bgp.peers[%d].localAddress", i), true)
	}
	if c.BGP.Mesh != nil {
		for i, n := range c.BGP.Mesh.Nodes {
			one(n.Address, "the address of node "+n.Name, fmt.Sprintf("bgp.mesh.nodes[%d]", i), true) // one of them is this node
		}
	}
	if c.BGP.Reflector != nil {
		for i, p := range c.BGP.Reflector.Clients {
			out = append(out, Claim{p, "where clients may be", fmt.Sprintf("bgp.reflector.clients[%d]", i), false})
		}
	}
	one(c.BGP.Listen.Address, "where BGP listens", "bgp.listen.address", true)
	one(c.IPAM.Registry.Listen.Addr(), "where the registry is served", "ipam.registry.listen", true)
	for _, text := range c.IPAM.Registry.Addresses {
		if at, err := netip.ParseAddrPort(text); err == nil {
			one(at.Addr(), "the address of the registry", "ipam.registry.address", c.IPAM.Registry.Listen == at)
		}
	}
	one(c.API.Admin.TCP.Addr(), "where the API is served", "api.admin.tcp", true)
	return out
}

// checkOverlaps finds the pools and originated prefixes that overlap the file's
// own claims.
func (p *checker) checkOverlaps(c *Config) {
	for _, e := range c.Overlaps(c.claims()) {
		if !p.Failed(e.Field) {
			p.Add(e)
		}
	}
}
