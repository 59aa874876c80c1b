package render

import (
	"fmt"

	"onlink/kube/api/v1alpha1"
)

// assemble makes the file of its parts, and records the object of each entry.
func assemble(s *self, b *base, c *cluster, peers *peerSet, pools *poolSet, l *ledger) *file {
	f := &file{
		Node:   nodeSection{Name: s.name, Address: s.first.String()},
		BGP:    bgpSection{ASN: b.asn, Reflector: c.reflector, Mesh: c.mesh},
		Pools:  []pool{}, // an absent list would mean the default pool
		IPAM:   b.ipam,
		Tunnel: b.tunnel,
		FIB:    b.fib,
		API:    apiSection{Admin: b.admin.section(s.first), Metrics: b.metrics},
		CNI:    b.cni,
		Log:    b.log,
		Reload: "signal",
	}
	c.sourcesOf(l)
	f.BGP.Peers = append(f.BGP.Peers, c.peers...)
	for _, p := range peers.list {
		l.source("bgp.peers", len(f.BGP.Peers), kindPeer, p.Name)
		f.BGP.Peers = append(f.BGP.Peers, p)
	}
	for _, name := range keys(peers.filters) {
		l.source("bgp.filters", len(f.BGP.Filters), kindFilter, name)
		f.BGP.Filters = append(f.BGP.Filters, peers.filters[name])
	}
	if c.reflector == nil && c.mesh == nil && len(f.BGP.Peers) == 0 {
		l.problem("no BGP session: label nodes %s, set reflection.mesh: Auto in the OnlinkConfig, or create a BGPPeer that selects this node", v1alpha1.ReflectorLabel)
	}
	for _, p := range pools.entries() {
		l.source("pools", len(f.Pools), kindPool, p.name)
		f.Pools = append(f.Pools, p.entry)
	}
	return f
}

// source records the object of an entry of a list.
func (l *ledger) source(list string, index int, kind, name string) {
	l.out.Sources[fmt.Sprintf("%s[%d]", list, index)] = Object{kind, name}
}
