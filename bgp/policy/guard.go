package policy

import (
	"fmt"
	"net/netip"
	"slices"
)

// Guard refuses announcements that no peer may make, even when a [Plan] accepts
// them: of a prefix inside a pool that is not the peer's own, and with a next hop
// that is not usable. It does not change: the engine calls it for every path and
// must not wait for a lock.
type Guard struct {
	pools    []Pool
	owners   *Owners
	gateways []netip.Addr
	networks []Network
	known    bool                 // networks are complete
	peers    map[netip.Addr]*Ward // by address without zone
	ranges   []wardRange          // the longest prefix first
}

// Ward is a peer in the form that a [Guard] checks.
type Ward struct {
	external, anyHop, anyOwner bool
	named                      []PrefixRule // of Import.Accept, inside pools, up to a block
	beyond                     []PrefixRule // of Import.Accept, for prefixes longer than a block
	filtered                   []PrefixRule // of accepting filter rules, inside pools
	shared                     []netip.Prefix
}

type wardRange struct {
	prefix netip.Prefix
	ward   *Ward
}

// Refusal is the reason why a [Guard] refuses a path.
type Refusal uint8

// The reasons of a refusal.
const (
	Permitted Refusal = iota
	tooLong
	unnamed
	NotOwner // a block of another node
	hopUnusable
	hopGateway
	hopEdge
	hopPooled
	hopForeign
	Refusals // their number
)

// Kind returns the class of the reason, for counters: pool, owner or next-hop.
func (r Refusal) Kind() string {
	switch r {
	case tooLong, unnamed:
		return "pool"
	case NotOwner:
		return "owner"
	case Permitted, hopUnusable, hopGateway, hopEdge, hopPooled, hopForeign, Refusals:
	}
	return "next-hop"
}

// Facts are the inputs of a [Guard] beside the configuration.
type Facts struct {
	Owners   *Owners // nil: no block has a known owner
	Networks []Network
	// NetworksKnown says that Networks are complete: before that no next hop is
	// refused because it is on none of them.
	NetworksKnown bool
}

// NewGuard returns the guard for the given peers and ranges of peers.
func NewGuard(n *Node, peers, ranges []Peer, f Facts) *Guard {
	g := &Guard{
		pools: n.Pools, gateways: n.PodGateways, owners: f.Owners, networks: f.Networks, known: f.NetworksKnown,
		peers: make(map[netip.Addr]*Ward, len(peers)),
	}
	if g.owners == nil {
		g.owners = NewOwners(nil)
	}
	for i := range peers {
		p := &peers[i]
		w := g.newWard(p)
		w.shared = p.Shared(f.Networks)
		g.peers[p.Neighbor.Addr()] = w
	}
	for i := range ranges {
		g.ranges = append(g.ranges, wardRange{ranges[i].Neighbor, g.newWard(&ranges[i])})
	}
	slices.SortFunc(g.ranges, func(a, b wardRange) int { return b.prefix.Bits() - a.prefix.Bits() })
	return g
}

func (g *Guard) newWard(p *Peer) *Ward {
	w := &Ward{external: p.External, anyHop: p.Import.DisableConnectedCheck, anyOwner: p.Import.DisableOwnerCheck}
	for _, r := range p.Import.Accept {
		w.accept(g.pools, r)
	}
	for _, f := range p.Import.Filters {
		for i := range f.Rules {
			w.filter(g.pools, &f.Rules[i])
		}
	}
	return w
}

// accept adds an entry of import.accept that names a pool or a part of one.
func (w *Ward) accept(pools []Pool, r PrefixRule) {
	pool, inside := poolAround(pools, r.Prefix)
	if !inside {
		return
	}
	for _, part := range first(r.split(pool)) {
		if lo, _ := part.lengths(); lo > pool.block() {
			w.beyond = append(w.beyond, part)
		} else {
			w.named = append(w.named, part)
		}
	}
}

// filter adds the prefixes inside pools that a filter's rule accepts.
func (w *Ward) filter(pools []Pool, r *Rule) {
	if r.Action != Accept {
		return
	}
	for _, p := range r.Match.Prefixes {
		if _, inside := poolAround(pools, p.Prefix); inside {
			w.filtered = append(w.filtered, p)
		}
	}
}

func first[A, B any](a A, _ B) A { return a }

// Ward returns the peer with an address; nil for a stranger.
func (g *Guard) Ward(peer netip.Addr) *Ward {
	peer = peer.WithZone("")
	if w, ok := g.peers[peer]; ok {
		return w
	}
	for _, r := range g.ranges {
		if r.prefix.Contains(peer) {
			return r.ward
		}
	}
	return nil
}

// JudgePrefix returns why the peer may not announce the prefix with that next
// hop, or Permitted; held means that the prefix belongs to a single node, so that
// the first one that announces it keeps it.
func (g *Guard) JudgePrefix(w *Ward, prefix netip.Prefix, hop netip.Addr) (why Refusal, held bool) {
	pool, inside := poolAround(g.pools, prefix)
	if !inside {
		return Permitted, false
	}
	long := prefix.Bits() > pool.block()
	switch {
	case matchesOne(w.filtered, prefix) && (long || w.external), long && matchesOne(w.beyond, prefix):
		return Permitted, false
	case long:
		return tooLong, false
	case w.external && !matchesOne(w.named, prefix):
		return unnamed, false
	case w.external:
		return Permitted, false
	}
	if g.Against(w, prefix, hop) != nil {
		return NotOwner, false
	}
	return Permitted, true
}

// Against returns a block overlapping prefix whose owner is not the node at hop,
// or nil. A link-local next hop does not identify a node, so none is returned.
func (g *Guard) Against(w *Ward, prefix netip.Prefix, hop netip.Addr) *Block {
	if w.external || w.anyOwner || !hop.IsValid() || hop.IsLinkLocalUnicast() {
		return nil
	}
	return g.owners.Against(prefix, hop)
}

// KnowsOwners reports whether any block has a known owner.
func (g *Guard) KnowsOwners() bool { return len(g.owners.blocks) > 0 }

// Pooled reports whether p is inside a pool.
func (g *Guard) Pooled(p netip.Prefix) bool {
	_, inside := poolAround(g.pools, p)
	return inside
}

func matchesOne(rules []PrefixRule, p netip.Prefix) bool {
	for i := range rules {
		if rules[i].Matches(p) {
			return true
		}
	}
	return false
}

// text describes a refusal in words, for an operator.
func (g *Guard) text(why Refusal, w *Ward, prefix netip.Prefix, announced, hop netip.Addr) string {
	switch why {
	case tooLong:
		return ruleTooLong
	case unnamed:
		return ruleUnnamed
	case NotOwner:
		if b := g.Against(w, prefix, announced); b != nil {
			return fmt.Sprintf("block %s belongs to node %s, which is not at %s", b.Prefix, b.Node, announced)
		}
		return "a block of another node"
	case hopUnusable:
		return fmt.Sprintf("the next hop %s is no address of a router", hop)
	case hopGateway:
		return fmt.Sprintf("the next hop %s is the gateway of the pods", hop)
	case hopEdge:
		return fmt.Sprintf("the next hop %s is the zero or broadcast address of a subnet", hop)
	case hopPooled:
		return fmt.Sprintf("the next hop %s is inside a pool", hop)
	case hopForeign:
		return fmt.Sprintf("the next hop %s is neither the peer nor on a subnet shared with it (RFC 4271 section 5.1.3)", hop)
	case Permitted, Refusals:
	}
	return ""
}

// Review returns the guard's verdict on a route of the peer that the policy
// accepts with v.
func (g *Guard) Review(v Verdict, peer netip.Addr) Verdict {
	w := g.Ward(peer)
	if w == nil {
		return v
	}
	why := g.JudgeHop(w, peer.WithZone(""), v.After.NextHop.WithZone(""))
	held := false
	if why == Permitted {
		why, held = g.JudgePrefix(w, v.Before.Prefix, v.Before.NextHop)
	}
	if why != Permitted {
		return v.Decide(g.text(why, w, v.Before.Prefix, v.Before.NextHop, v.After.NextHop), Reject, v.After)
	}
	if held && v.After.LocalPref != nil && v.Before.LocalPref != nil && *v.After.LocalPref == *v.Before.LocalPref && *v.After.LocalPref != 100 {
		hundred := uint32(100)
		v.After.LocalPref = &hundred
		v.Steps = slices.Insert(v.Steps, len(v.Steps)-1, Step{"LOCAL_PREF is ignored between nodes", "LOCAL_PREF 100"})
	}
	return v
}

// Holds reports whether the prefix belongs to a single node, so that the first one that
// announces it keeps it.
func (g *Guard) Holds(peer netip.Addr, prefix netip.Prefix, hop netip.Addr) bool {
	w := g.Ward(peer)
	if w == nil {
		return false
	}
	why, held := g.JudgePrefix(w, prefix, hop)
	return why == Permitted && held
}
