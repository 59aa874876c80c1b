package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
)

// guard says what no peer may announce, whatever policy accepts: a prefix of
// the pools that is not its own, and a next hop that leads astray. It is made
// anew when what it is made of changes, and does not change itself: the engine
// asks it about every path, and must not wait for a lock.
type guard struct {
	pools    []Pool
	owners   *owners
	gateways []netip.Addr
	networks []Network
	known    bool                 // networks are known
	peers    map[netip.Addr]*ward // by address without zone
	ranges   []wardRange          // dynamic peers, the longest prefix first
}

// ward is a peer as the guard sees it.
type ward struct {
	ebgp, anyHop, anyOwner bool
	named                  []PrefixRule // of Import.Accept, inside pools, up to a block
	beyond                 []PrefixRule // of Import.Accept, for what is longer than a block
	filtered               []PrefixRule // of accepting filter rules, inside pools
	shared                 []netip.Prefix
}

type wardRange struct {
	prefix netip.Prefix
	ward   *ward
}

// refusal is why the guard refuses a path.
type refusal uint8

// The reasons of a refusal.
const (
	permitted refusal = iota
	tooLong
	unnamed
	notOwner
	hopUnusable
	hopGateway
	hopEdge
	hopPooled
	hopForeign
	refusals // their number
)

// kind is the reason as the counters of [Speaker.Refused] sum it up.
func (r refusal) kind() string {
	switch r {
	case tooLong, unnamed:
		return "pool"
	case notOwner:
		return "owner"
	case permitted, hopUnusable, hopGateway, hopEdge, hopPooled, hopForeign, refusals:
	}
	return "next-hop"
}

// newGuard is made from the configuration of the moment.
func newGuard(c *Config, peers map[netip.Addr]Peer, dynamics map[string]Dynamic) *guard {
	g := &guard{pools: c.Pools, gateways: c.PodGateways, owners: newOwners(nil), peers: make(map[netip.Addr]*ward, len(peers))}
	for addr, p := range peers {
		g.peers[addr.WithZone("")] = g.newWard(&p.Session)
	}
	for _, d := range dynamics {
		g.ranges = append(g.ranges, wardRange{d.Prefix, g.newWard(&d.Session)})
	}
	slices.SortFunc(g.ranges, func(a, b wardRange) int { return b.prefix.Bits() - a.prefix.Bits() })
	return g
}

func (g *guard) newWard(s *Session) *ward {
	w := &ward{ebgp: s.Role == EBGP, anyHop: s.Import.AnyNextHop, anyOwner: s.Import.AnyOwner}
	for _, r := range s.Import.Accept {
		w.accept(g.pools, r)
	}
	for _, f := range s.Import.Filters {
		for i := range f.Rules {
			w.filter(g.pools, &f.Rules[i])
		}
	}
	return w
}

// accept notes an entry of import.accept that names a pool or a part of one.
func (w *ward) accept(pools []Pool, r PrefixRule) {
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

// filter notes what a filter's rule accepts inside the pools.
func (w *ward) filter(pools []Pool, r *FilterRule) {
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

// wardOf finds a peer by its address; nil for a stranger.
func (g *guard) wardOf(peer netip.Addr) *ward {
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

// judgePrefix says whether the peer may announce the prefix with that next
// hop, and whether the prefix is held: one node's alone.
func (g *guard) judgePrefix(w *ward, prefix netip.Prefix, hop netip.Addr) (why refusal, held bool) {
	pool, inside := poolAround(g.pools, prefix)
	if !inside {
		return permitted, false
	}
	long := prefix.Bits() > pool.block()
	switch {
	case matchesOne(w.filtered, prefix) && (long || w.ebgp), long && matchesOne(w.beyond, prefix):
		return permitted, false
	case long:
		return tooLong, false
	case w.ebgp && !matchesOne(w.named, prefix):
		return unnamed, false
	case w.ebgp:
		return permitted, false
	}
	if g.against(w, prefix, hop) != nil {
		return notOwner, false
	}
	return permitted, true
}

// against returns the block whose owner is not the node at hop, or nil. A
// link-local next hop says nothing of the node.
func (g *guard) against(w *ward, prefix netip.Prefix, hop netip.Addr) *Block {
	if w.ebgp || w.anyOwner || !hop.IsValid() || hop.IsLinkLocalUnicast() {
		return nil
	}
	return g.owners.against(prefix, hop)
}

func matchesOne(rules []PrefixRule, p netip.Prefix) bool {
	for i := range rules {
		if rules[i].Matches(p) {
			return true
		}
	}
	return false
}

// text says a refusal in words, for operators.
func (g *guard) text(why refusal, w *ward, prefix netip.Prefix, announced, hop netip.Addr) string {
	switch why {
	case tooLong:
		return ruleTooLong
	case unnamed:
		return ruleUnnamed
	case notOwner:
		if b := g.against(w, prefix, announced); b != nil {
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
	case permitted, refusals:
	}
	return ""
}

// evaluate says what the guard makes of what policy accepted.
func (g *guard) evaluate(v Verdict, peer netip.Addr) Verdict {
	w := g.wardOf(peer)
	if w == nil {
		return v
	}
	why := g.judgeHop(w, peer.WithZone(""), v.After.NextHop.WithZone(""))
	held := false
	if why == permitted {
		why, held = g.judgePrefix(w, v.Before.Prefix, v.Before.NextHop)
	}
	if why != permitted {
		return v.decide(g.text(why, w, v.Before.Prefix, v.Before.NextHop, v.After.NextHop), Reject, v.After)
	}
	if held && v.After.LocalPref != nil && v.Before.LocalPref != nil && *v.After.LocalPref == *v.Before.LocalPref && *v.After.LocalPref != 100 {
		hundred := uint32(100)
		v.After.LocalPref = &hundred
		v.Steps = slices.Insert(v.Steps, len(v.Steps)-1, Step{"LOCAL_PREF has no say between nodes", "LOCAL_PREF 100"})
	}
	return v
}

// importer is what bgp/engine adds to the engine: a check of what policy
// accepts, and a second import of some prefixes.
type importer interface {
	SetImportCheck(check func(peer netip.Addr, prefix netip.Prefix, announced, hop netip.Addr) (ok, held bool)) error
	ImportAgain(match func(netip.Prefix) bool) error
}

// gate asks the guard for the engine, on the engine's goroutine. The paths of
// an UPDATE have one peer and one next hop, so it remembers the last of both.
type gate struct {
	current *atomic.Pointer[guard]
	refused *[refusals]atomic.Uint64
	suspect chan<- struct{}

	guard *guard
	peer  netip.Addr
	ward  *ward
	hop   netip.Addr
	why   refusal // of hop
}

func (t *gate) check(peer netip.Addr, prefix netip.Prefix, announced, hop netip.Addr) (ok, held bool) {
	g := t.current.Load()
	if g != t.guard || peer != t.peer {
		t.guard, t.peer, t.ward, t.hop = g, peer, g.wardOf(peer), netip.Addr{}
	}
	if t.ward == nil {
		return true, false // policy knows no stranger
	}
	if hop != t.hop {
		t.hop, t.why = hop, g.judgeHop(t.ward, peer, hop)
	}
	why := t.why
	if why == permitted {
		why, held = g.judgePrefix(t.ward, prefix, announced)
	}
	if why == permitted {
		return true, held
	}
	t.refused[why].Add(1)
	if why == notOwner {
		select {
		case t.suspect <- struct{}{}:
		default:
		}
	}
	return false, false
}

// storeGuardLocked makes the guard anew, for the next path on.
func (s *Speaker) storeGuardLocked() {
	g := newGuard(&s.cfg, s.peers, s.dynamics)
	g.owners, g.networks, g.known = s.owners, s.networks, s.networksKnown
	for addr, p := range s.peers {
		g.peers[addr.WithZone("")].shared = sharedWith(g.networks, addr, p.Interface)
	}
	s.guard.Store(g)
}

// guardLocked puts the guard into a started engine.
func (s *Speaker) guardLocked() error {
	engine, able := any(s.engine).(importer)
	if !able {
		return nil
	}
	s.storeGuardLocked()
	t := &gate{current: &s.guard, refused: &s.refused, suspect: s.suspect}
	if err := engine.SetImportCheck(t.check); err != nil {
		return fmt.Errorf("guard the import: %w", err)
	}
	return nil
}

// Suspect signals that a block was announced by another node than its owner:
// what [Speaker.SetOwners] was given may be old. It has room for one signal
// and is never closed.
func (s *Speaker) Suspect() <-chan struct{} { return s.suspect }

// Refused counts the announcements that were refused whatever policy accepts,
// by reason, since the start; one that is judged again counts again.
func (s *Speaker) Refused() map[string]uint64 {
	out := map[string]uint64{"pool": 0, "owner": 0, "next-hop": 0}
	for why := tooLong; why < refusals; why++ {
		out[why.kind()] += s.refused[why].Load()
	}
	return out
}
