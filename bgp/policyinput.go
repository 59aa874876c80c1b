package bgp

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"onlink/bgp/policy"
)

// This file translates the configuration into the types of package policy.

// policyNode returns this node in the form of package policy.
func (c *Config) policyNode() policy.Node {
	return policy.Node{ASN: c.ASN, Addresses: c.ownAddresses(), Pools: c.Pools, PodGateways: c.PodGateways}
}

// policy returns the peer in the form of package policy.
func (p *Peer) policy() policy.Peer {
	out := p.Session.policy(netip.PrefixFrom(p.Address.WithZone(""), p.Address.BitLen()))
	out.Name = p.Name
	out.Device = cmp.Or(p.Address.Zone(), p.Interface)
	return out
}

func (s *Session) policy(neighbor netip.Prefix) policy.Peer {
	return policy.Peer{
		Neighbor: neighbor, ASN: s.ASN, External: s.Role == EBGP, Client: s.Role == Client,
		LocalAS: s.LocalAS, AllowOwnAS: s.AllowOwnAS, Import: s.Import, Export: s.Export,
	}
}

// policyPeers returns peers in the order of their addresses, policyRanges
// dynamic ones in that of their prefixes.
func policyPeers(peers map[netip.Addr]Peer) []policy.Peer {
	out := make([]policy.Peer, 0, len(peers))
	for _, p := range inOrder(peers, func(a, b Peer) int { return a.Address.Compare(b.Address) }) {
		out = append(out, p.policy())
	}
	return out
}

func policyRanges(dynamics map[string]Dynamic) []policy.Peer {
	out := make([]policy.Peer, 0, len(dynamics))
	for _, d := range inOrder(dynamics, func(a, b Dynamic) int { return a.Prefix.Compare(b.Prefix) }) {
		one := d.Session.policy(d.Prefix)
		one.Name = d.Name
		out = append(out, one)
	}
	return out
}

// policyOwn returns own prefixes, and those that are about to be withdrawn.
func policyOwn(own origins, ending ...Origin) []policy.OwnPrefix {
	out := make([]policy.OwnPrefix, 0, len(own)+len(ending))
	add := func(list []Origin, ending bool) {
		for _, o := range list {
			out = append(out, policy.OwnPrefix{Prefix: o.Prefix, Aggregate: o.Aggregate, Service: o.Service, Peers: o.Peers, Ending: ending})
		}
	}
	add(inOrder(own, Origin.compare), false)
	add(ending, true)
	return out
}

func inOrder[K comparable, V any](set map[K]V, compare func(a, b V) int) []V {
	return slices.SortedFunc(maps.Values(set), compare)
}
