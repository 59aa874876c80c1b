package bgp

import (
	"cmp"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"onlink/bgp/gobgp"
	"onlink/bgp/policy"
)

// rivalCheck is how often Run looks for rivals. One counts when it was there
// twice: a block that has just changed hands is withdrawn by its last owner a
// moment after the new one announces it.
const rivalCheck = 5 * time.Second

// A look at very many routes keeps the engine from its work for a while: the
// next one comes after so many times as long, or after rivalSlowest.
const (
	rivalShare   = 1000
	rivalSlowest = 30 * time.Second
)

// rivalPause returns the time to the next look after one that took so long.
func rivalPause(took time.Duration) time.Duration {
	return min(max(rivalCheck, rivalShare*took), rivalSlowest)
}

// look is what one look at the announcements of the peers finds.
type look struct {
	rivals     map[Rival]bool
	intrusions map[Intrusion]bool
	contested  map[netip.Prefix][]netip.Addr
}

// lookAround asks the engine what peers announce for our own prefixes, and for
// blocks that are not theirs.
func lookAround(engine *gobgp.Engine, own ownPrefixes, echo echoes, g *policy.Guard) (look, error) {
	found := look{rivals: map[Rival]bool{}, intrusions: map[Intrusion]bool{}, contested: map[netip.Prefix][]netip.Addr{}}
	watched := func(p netip.Prefix) bool {
		return own.holding(p).IsValid() || g != nil && g.KnowsOwners() && g.Pooled(p)
	}
	err := engine.EachReceived(watched, func(peer netip.Addr, prefix netip.Prefix, attrs gobgp.Attributes) {
		r := rivalOf(peer, prefix, attrs)
		if r.Origin = own.holding(prefix); r.Origin.IsValid() {
			if !echo.has(&r, attrs) {
				found.rivals[r] = true
			}
		} else if i, bad := intrusionOf(g, &r); bad {
			found.intrusions[i] = true
		}
	})
	if err != nil {
		return found, err
	}
	return found, engine.EachContested(func(prefix netip.Prefix, hops []netip.Addr) { found.contested[prefix] = hops })
}

// lookout keeps what others announce of this node's prefixes, and of blocks that
// are not theirs.
type lookout struct {
	log  *slog.Logger
	last look // of the goroutine that looks

	mu         sync.Mutex // guards all below, as found last
	rivals     []Rival
	intrusions []Intrusion
	contested  map[netip.Prefix][]netip.Addr
}

// take takes in what was found now and at the last look too.
func (l *lookout) take(found look) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takeRivalsLocked(found.rivals)
	l.takeIntrusionsLocked(found.intrusions)
	l.takeContestedLocked(maps.Clone(found.contested))
	l.last = found
}

func (l *lookout) takeRivalsLocked(found map[Rival]bool) {
	list := inBoth(found, l.last.rivals)
	slices.SortFunc(list, func(a, b Rival) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()), a.Peer.Compare(b.Peer), a.NextHop.Compare(b.NextHop))
	})
	for _, r := range list {
		if !slices.Contains(l.rivals, r) {
			l.log.Warn("another node announces our prefix", "origin", r.Origin, "prefix", r.Prefix, "peer", r.Peer, "next_hop", r.NextHop, "originator_id", r.OriginatorID, "as_path", r.ASPath)
		}
	}
	l.rivals = list
}

// inBoth returns what is in both sets.
func inBoth[T comparable](a, b map[T]bool) (list []T) {
	for v := range a {
		if b[v] {
			list = append(list, v)
		}
	}
	return list
}

func (l *lookout) takeIntrusionsLocked(found map[Intrusion]bool) {
	list := inBoth(found, l.last.intrusions)
	slices.SortFunc(list, func(a, b Intrusion) int {
		return cmp.Or(a.Prefix.Compare(b.Prefix), a.Peer.Compare(b.Peer), a.NextHop.Compare(b.NextHop))
	})
	for _, i := range list {
		if !slices.Contains(l.intrusions, i) {
			l.log.Warn("a node announces another node's block, refused", "prefix", i.Prefix, "block", i.Block, "owner", i.Owner, "peer", i.Peer, "next_hop", i.NextHop, "originator_id", i.OriginatorID)
		}
	}
	l.intrusions = list
}

func (l *lookout) takeContestedLocked(found map[netip.Prefix][]netip.Addr) {
	maps.DeleteFunc(found, func(p netip.Prefix, _ []netip.Addr) bool { return l.last.contested[p] == nil })
	for p, hops := range found {
		if l.contested[p] == nil {
			l.log.Warn("several nodes announce one block, the first one keeps it", "block", p, "next_hops", hops)
		}
	}
	l.contested = found
}
