package bgp

import (
	"context"
	"maps"
	"net/netip"
	"slices"
)

// Rivals returns the announcements of other nodes for this node's own prefixes,
// by prefix, as of the last few seconds. It is nil with an unpatched engine, which
// does not list received routes.
//
// Our own announcement that comes back, from a ToR or around it, is left out: a
// path that has our router ID or next hop or, from another AS, that began in our
// AS or in the AS of one of our eBGP peers (which may have put its own number in
// place of ours).
func (s *Speaker) Rivals() []Rival {
	s.lookout.mu.Lock()
	defer s.lookout.mu.Unlock()
	return slices.Clone(s.lookout.rivals)
}

// Intrusions returns the announcements that were refused because the registry has
// another owner, by prefix, as of the last few seconds. It is nil with an
// unpatched engine.
func (s *Speaker) Intrusions() []Intrusion {
	s.lookout.mu.Lock()
	defer s.lookout.mu.Unlock()
	return slices.Clone(s.lookout.intrusions)
}

// Contested returns the blocks without a registered owner that several nodes
// announce, with their next hops: first the one in use, of the node that announced
// first. It is as of the last few seconds, and nil with an unpatched engine.
func (s *Speaker) Contested() map[netip.Prefix][]netip.Addr {
	s.lookout.mu.Lock()
	defer s.lookout.mu.Unlock()
	return maps.Clone(s.lookout.contested)
}

// look examines the announcements of the peers. From now on Rivals, Intrusions and
// Contested return those that were there at the last look too. It also finds the
// paths of others that carry our router ID: another node has the same one then,
// and we ignore its announcements (RFC 4456 section 8).
func (s *Speaker) look(ctx context.Context) {
	if !s.engine.KeepsReceived() {
		return
	}
	s.mu.Lock()
	own, echo := ownPrefixesOf(s.origins.alone()), echoesOf(&s.cfg, s.sessions.want)
	// Under the lock: while it is held a new guard judges the announcements again,
	// so that no look with that guard finds those of before.
	now := view{guard: s.guard.current.Load()}
	var err error
	now.received, err = s.engine.Received()
	s.mu.Unlock()
	if err == nil && !s.lookout.knows(now) {
		var found look
		if found, err = lookAround(s.engine, own, echo, now); err == nil {
			s.lookout.take(found)
		}
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("failed to search for other announcements of blocks", "err", err)
	}
	wanted, me := s.ledger.foreign(), s.cfg.self()
	if len(wanted) == 0 {
		return
	}
	paths, err := foreignPaths(s.engine, wanted, me, own)
	if err != nil {
		s.log.Warn("failed to search for nodes with our router ID", "err", err)
		return
	}
	for peer, why := range s.ledger.confirm(paths, me) {
		s.log.Warn("another node has our router ID", "peer", peer, "why", why)
	}
}
