package rib

import (
	"maps"
	"net/netip"
)

// Liveness resolves next hops as another resolver does, except that a dead one is
// unreachable, whatever the FIB has. It is not safe for concurrent use.
type Liveness struct {
	Resolver

	dead map[netip.Addr]bool
}

// NewLiveness returns a resolver without dead next hops.
func NewLiveness(r Resolver) *Liveness {
	return &Liveness{Resolver: r, dead: map[netip.Addr]bool{}}
}

// Reach implements Resolver.
func (l *Liveness) Reach(nextHop netip.Addr) Reach {
	if l.dead[nextHop] {
		return Reach{Kind: Dead}
	}
	return l.Resolver.Reach(nextHop)
}

// Set marks next hops dead, and others alive again. A table that resolves with l needs
// [Table.NextHopsChanged] for them.
func (l *Liveness) Set(died, alive []netip.Addr) {
	for _, a := range died {
		l.dead[a] = true
	}
	for _, a := range alive {
		delete(l.dead, a)
	}
}

// Clone returns a copy with the same dead next hops.
func (l *Liveness) Clone() *Liveness { return &Liveness{l.Resolver, maps.Clone(l.dead)} }
