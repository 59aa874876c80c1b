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

// rivalCheck is the interval at which Run looks for rivals. One counts when two
// looks in a row find it: the last owner of a block withdraws it a moment after
// the new one announces it.
const rivalCheck = 5 * time.Second

// A look at very many routes blocks the engine for a while: the next one comes
// after rivalShare times as long, at most after rivalSlowest.
const (
	rivalShare   = 1000
	rivalSlowest = 30 * time.Second
)

// rivalPause returns the pause after a look that lasted took.
func rivalPause(took time.Duration) time.Duration {
	return min(max(rivalCheck, rivalShare*took), rivalSlowest)
}

// view is what the findings of a look depend on: as long as it is the same, so
// are they. The guard is another one after each change of the peers, of the own
// prefixes, and of the owners of blocks.
type view struct {
	received gobgp.Received
	guard    *policy.Guard
}

// look is the result of one look at the announcements of the peers.
type look struct {
	view       view
	rivals     map[Rival]bool
	intrusions map[Intrusion]bool
	contested  map[netip.Prefix][]netip.Addr
}

// lookAround finds, in the engine, the announcements of our own prefixes, and
// those of blocks by peers that do not own them. v is as of now.
func lookAround(engine *gobgp.Engine, own ownPrefixes, echo echoes, v view) (look, error) {
	g := v.guard
	found := look{view: v, rivals: map[Rival]bool{}, intrusions: map[Intrusion]bool{}, contested: map[netip.Prefix][]netip.Addr{}}
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

// lookout keeps the announcements of this node's prefixes by other nodes, and
// those of blocks by nodes that do not own them.
type lookout struct {
	log     *slog.Logger
	last    look // only of the goroutine that looks
	settled bool // the last two looks had one view; of that goroutine too

	mu         sync.Mutex // guards all below, as found last
	rivals     []Rival
	intrusions []Intrusion
	contested  map[netip.Prefix][]netip.Addr
}

// knows reports whether another look would find the same: the last two had this
// view. One is not enough, because what counts is found twice.
func (l *lookout) knows(v view) bool { return l.settled && l.last.view == v }

// take adopts the findings of this look that the last one had too.
func (l *lookout) take(found look) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takeRivalsLocked(found.rivals)
	l.takeIntrusionsLocked(found.intrusions)
	l.takeContestedLocked(maps.Clone(found.contested))
	l.settled = found.view == l.last.view
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

// inBoth returns the members of both sets.
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
