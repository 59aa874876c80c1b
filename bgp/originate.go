package bgp

import (
	"context"
	"fmt"
	"net/netip"

	"onlink/bgp/gobgp"
)

// SetOrigins makes the announced own prefixes exactly those given. It may be
// called before Start, so that the first announcement to every peer is
// complete. Nothing is changed when it returns an [ErrConfig].
func (s *Speaker) SetOrigins(_ context.Context, list []Origin) error {
	want, err := originsOf(&s.cfg, list)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		s.origins = want
		return nil
	}
	return s.applyOriginsLocked(want)
}

// applyOriginsLocked moves the engine from s.origins to want. After an error
// s.origins is unchanged, so that the next attempt repeats all of it.
func (s *Speaker) applyOriginsLocked(want origins) error {
	old := s.origins
	s.origins = want // the policy below is computed from it
	if err := s.moveOriginsLocked(old.to(want)); err != nil {
		s.origins = old
		return err
	}
	return nil
}

// moveOriginsLocked announces and withdraws own prefixes. The policy that refuses
// them from peers is in force before they are announced, and lifted only after
// they are withdrawn. What an aggregate hides is withdrawn after the aggregate is
// announced, and announced before the aggregate is withdrawn: its packets always have
// a way here.
func (s *Speaker) moveOriginsLocked(m moves) error {
	if m.filters {
		if err := s.installPolicyLocked(m.withdraw...); err != nil {
			return err
		}
	}
	for _, o := range m.announce {
		r := o.route(&s.cfg)
		if err := s.engine.Announce(&r); err != nil {
			return fmt.Errorf("announce own prefixes: %w", err)
		}
	}
	if len(m.redirected) > 0 {
		// Only the peers that receive them differ: to the engine the routes are as before.
		if err := s.engine.ExportAgain(func(p netip.Prefix) bool { return m.redirected[p] }); err != nil {
			return fmt.Errorf("announce own prefixes to other peers: %w", err)
		}
	}
	for _, o := range m.withdraw {
		r := o.route(&s.cfg)
		if err := s.engine.Withdraw(&r); err != nil {
			return fmt.Errorf("withdraw own prefixes: %w", err)
		}
	}
	if len(m.withdraw) == 0 {
		return nil
	}
	if err := s.installPolicyLocked(); err != nil {
		return err
	}
	return s.judgeFreedLocked(m.withdraw)
}

// judgeFreedLocked applies the import policy again to the peers that announced a
// withdrawn prefix, or a part of it, while we originated it. Other peers are left
// alone: a reflector with many routes would evaluate all of them each time that a
// service ends.
func (s *Speaker) judgeFreedLocked(list []Origin) error {
	if !s.engine.KeepsReceived() {
		return s.sessions.judgeAgain(netip.Addr{}, gobgp.In)
	}
	set := make(map[netip.Prefix]Origin, len(list))
	for _, o := range list {
		set[o.Prefix] = o
	}
	freed, peers := ownPrefixesOf(set), map[netip.Addr]bool{}
	err := s.engine.EachReceived(func(p netip.Prefix) bool { return freed.holding(p).IsValid() },
		func(peer netip.Addr, _ netip.Prefix, _ gobgp.Attributes) { peers[peer] = true })
	if err != nil {
		return fmt.Errorf("look for announcements of withdrawn prefixes: %w", err)
	}
	for peer := range peers {
		if err := s.sessions.judgeAgain(peer, gobgp.In); err != nil {
			// its session may have ended meanwhile
			return s.sessions.judgeAgain(netip.Addr{}, gobgp.In)
		}
	}
	return nil
}
