package config

import (
	"fmt"
	"net/netip"
	"slices"

	"onlink/bgp/policy"
	"onlink/ipam"
)

// special are the ranges in which no pod is reachable: "this" network (RFC 791),
// loopback, link-local and multicast.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("::/127"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

func (p *checker) checkPools(c *Config) {
	names := map[string]int{}
	for i, pool := range c.Pools {
		path := fmt.Sprintf("pools[%d]", i)
		if first, dup := names[pool.Name]; dup && pool.Name != "" {
			p.Fail(path+".name", "%q is also the name of pools[%d]; use another", pool.Name, first)
		} else {
			names[pool.Name] = i
		}
		if pool.Name == "" && !p.Failed(path+".name") {
			p.Fail(path+".name", "is missing; write a name, which blocks and metrics will carry")
		}
		if !pool.CIDR.IsValid() {
			if !p.Failed(path + ".cidr") {
				p.Fail(path+".cidr", "is missing; write one such as 10.244.0.0/16")
			}
			continue
		}
		p.checkRange(path, pool)
		for j, other := range c.Pools[:i] {
			if other.CIDR.IsValid() && pool.CIDR.Overlaps(other.CIDR) {
				p.Fail(path+".cidr", "%s overlaps pools[%d] (%s); pools must be apart", pool.CIDR, j, other.CIDR)
				break
			}
		}
	}
}

// checkRange checks a pool's CIDR, the size of its blocks and its reserved
// ranges.
func (p *checker) checkRange(path string, pool Pool) {
	for _, s := range special {
		if pool.CIDR.Overlaps(s) {
			p.Fail(path+".cidr", "%s overlaps %s, whose addresses no pod can have; use a private range such as 10.244.0.0/16", pool.CIDR, s)
			break
		}
	}
	shortest, _, longest := ipam.BlockSizes(pool.CIDR)
	shortest = max(shortest, pool.CIDR.Bits())
	if size := pool.BlockSize; (size < shortest || size > longest) && !p.Failed(path+".blockSize") {
		p.Fail(path+".blockSize", "a block of /%d does not fit into %s; use %d to %d", size, pool.CIDR, shortest, longest)
	}
	for k, r := range pool.Reserved {
		if r.Addr().BitLen() != pool.CIDR.Addr().BitLen() || r.Bits() < pool.CIDR.Bits() || !pool.CIDR.Contains(r.Addr()) {
			p.Fail(fmt.Sprintf("%s.reserved[%d]", path, k), "%s is not inside %s; remove it", r, pool.CIDR)
		}
	}
	if pool.Encapsulation == EncapAlways && pool.Tunnel == TunnelNone {
		p.Fail(path+".tunnel", "none contradicts encapsulation: Always; use ipip or vxlan, or encapsulation: Never")
	}
}

// checkSplit requires pools that two registries can cut in two.
func (p *checker) checkSplit(c *Config) {
	if !c.IPAM.Registry.Split() || p.Failed("ipam.registry.kind") {
		return
	}
	for i, pool := range c.Pools {
		if pool.CIDR.IsValid() && pool.BlockSize <= pool.CIDR.Bits() {
			p.Fail(fmt.Sprintf("pools[%d].blockSize", i), "is one block, which two registries cannot split; make it smaller than the pool")
		}
	}
}

// checkAggregates keeps aggregates inside our own ranges: a node attracts the
// packets for all of an aggregate and needs a route for each of them.
func (p *checker) checkAggregates(c *Config) {
	for i, peer := range c.BGP.Peers {
		path := fmt.Sprintf("bgp.peers[%d].export.aggregates", i)
		if len(peer.Export.Aggregates) == 0 || p.Failed(path) {
			continue
		}
		switch {
		case !peer.External(c.BGP.ASN):
			p.Fail(path, "is for peers of another AS, and this one is of ours (%d), which needs the blocks; remove it", c.BGP.ASN)
		case !peer.Export.Own:
			p.Fail(path, "has no use with own: false; remove one")
		}
		for n, a := range peer.Export.Aggregates {
			p.checkAggregate(fmt.Sprintf("%s[%d]", path, n), a, c)
		}
	}
}

func (p *checker) checkAggregate(path string, a policy.Aggregate, c *Config) {
	if slices.Contains(c.BGP.Originate, a.Prefix) {
		p.Fail(path, "%s is among bgp.originate too, which announces it always; remove one", a.Prefix)
	}
	i := slices.IndexFunc(c.Pools, func(pool Pool) bool {
		return pool.CIDR.Bits() <= a.Prefix.Bits() && pool.CIDR.Contains(a.Prefix.Addr())
	})
	if i < 0 {
		p.Fail(path, "%s is inside no pool, so this node would attract packets for addresses of others; use a pool's cidr or a part of it", a.Prefix)
		return
	}
	pool := c.Pools[i]
	if a.Prefix.Bits() >= pool.BlockSize {
		p.Fail(path, "%s is not larger than a block of pool %s (/%d); use a shorter prefix", a.Prefix, pool.Name, pool.BlockSize)
	}
	if a.SummaryOnly && pool.Encapsulation == EncapNever {
		p.Fail(path, "summaryOnly hides the blocks from the router, and pool %s has encapsulation: Never, so a packet to a node behind the router would return; use CrossSubnet or Always, or remove summaryOnly", pool.Name)
	}
}
