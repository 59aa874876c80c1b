package bgp

import (
	"context"
	"maps"
	"net/netip"
	"slices"
)

// Rivals returns the announcements of other nodes for what this one
// originates, by prefix, as of the last few seconds. It is nil with an
// unpatched engine, which cannot tell.
//
// Our own announcement also comes back, from a ToR or around it, and is not
// meant: a path that has our router ID or next hop, or, from another AS, that
// began in our AS or in the AS of one of our eBGP peers (which may have put
// its own number in place of ours).
func (s *Speaker) Rivals() []Rival {
	s.lookout.mu.Lock()
	defer s.lookout.mu.Unlock()
	return slices.Clone(s.lookout.rivals)
}

// Intrusions returns the announcements that were refused because the registry
// knows another owner, by prefix, as of the last few seconds. It is nil with an
// unpatched engine.
func (s *Speaker) Intrusions() []Intrusion {
	s.lookout.mu.Lock()
	defer s.lookout.mu.Unlock()
	return slices.Clone(s.lookout.intrusions)
}

// Contested returns the blocks that several nodes announce, of which it is not
// known who owns them, with their next hops: first the one that is used, of the
// node that came first. It is as of the last few seconds, and nil with an
// unpatched engine.
func (s *Speaker) Contested() map[netip.Prefix][]netip.Addr {
	s.lookout.mu.Lock()
	defer s.lookout.mu.Unlock()
	return maps.Clone(s.lookout.contested)
}

// look looks at what peers announce. What was there at the last look as well is
// what Rivals, Intrusions and Contested return from now on. The paths of others
// that carry our router ID are looked for too: another node has it as well then,
// and we ignore what that node announces (RFC 4456 section 8).
func (s *Speaker) look(ctx context.Context) {
	if !s.engine.KeepsReceived() {
		return
	}
	s.mu.Lock()
	own, echo := ownPrefixesOf(s.origins), echoesOf(&s.cfg, s.sessions.want)
	s.mu.Unlock()
	found, err := lookAround(s.engine, own, echo, s.guard.current.Load())
	switch {
	case err == nil:
		s.lookout.take(found)
	case ctx.Err() == nil:
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
