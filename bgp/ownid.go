package bgp

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"onlink/bgp/gobgp"
)

// ownOriginator records a path with this speaker's router ID as ORIGINATOR_ID.
// With two reflectors our own announcements come back in this way; those have
// our next hop and are left out.
func (l *ledger) ownOriginator(e gobgp.Event, me self) {
	if !e.NextHop.IsValid() || !e.Prefix.IsValid() || slices.Contains(me.addresses, e.NextHop) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.recordLocked(e.Peer)
	if r.foreign == nil {
		r.foreign = map[netip.Prefix]netip.Addr{}
	}
	if len(r.foreign) < foreignKept {
		r.foreign[e.Prefix] = e.NextHop
	}
}

// foreignPaths returns the wanted prefixes that peers still announce with our
// router ID and another node's next hop: by peer, with the next hops.
func foreignPaths(engine *gobgp.Engine, wanted map[netip.Prefix]bool, me self, own ownPrefixes) (map[netip.Addr]map[netip.Prefix]netip.Addr, error) {
	found := map[netip.Addr]map[netip.Prefix]netip.Addr{}
	err := engine.EachReceived(func(p netip.Prefix) bool { return wanted[p] && !own.holding(p).IsValid() },
		func(peer netip.Addr, p netip.Prefix, attrs gobgp.Attributes) {
			hop := attrs.NextHop()
			if attrs.OriginatorID() != me.id || slices.Contains(me.addresses, hop) {
				return
			}
			if found[peer] == nil {
				found[peer] = map[netip.Prefix]netip.Addr{}
			}
			found[peer][p] = hop
		})
	return found, err
}

// foreign returns the prefixes of other nodes' paths with our router ID.
func (l *ledger) foreign() map[netip.Prefix]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[netip.Prefix]bool{}
	for _, r := range l.peers {
		for p := range r.foreign {
			out[p] = true
		}
	}
	return out
}

// confirm replaces the recorded paths of other nodes with our router ID by those
// in found. It returns the text for every peer that had none confirmed before.
func (l *ledger) confirm(found map[netip.Addr]map[netip.Prefix]netip.Addr, me self) map[netip.Addr]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	fresh := map[netip.Addr]string{}
	for a, r := range l.peers {
		paths := found[a]
		if len(r.foreign) == 0 && r.ownID == "" {
			continue
		}
		if r.foreign = paths; len(paths) == 0 {
			r.ownID = ""
			continue
		}
		p := slices.MinFunc(slices.Collect(maps.Keys(paths)), netip.Prefix.Compare)
		was := r.ownID
		r.ownID = fmt.Sprintf("router ID %s of this node is also that of %s, which announces %s: neither uses what the other announces; give every node its own bgp.routerID", me.id, paths[p], p)
		if was == "" {
			r.fail(r.ownID, l.now())
			fresh[a] = r.ownID
		}
	}
	return fresh
}
