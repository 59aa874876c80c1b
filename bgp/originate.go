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
	if len(m.withdraw) > 0 {
		if err := s.installPolicyLocked(); err != nil {
			return err
		}
	}
	return s.judgeInsideLocked(m.judged)
}

// judgeInsideLocked applies the import policy again to the routes of peers inside own
// prefixes: those inside a new one are dropped, those inside a withdrawn one accepted.
// No other route is evaluated: a reflector with many would evaluate all of them each
// time that a service begins or ends.
func (s *Speaker) judgeInsideLocked(own ownPrefixes) error {
	if len(own.set) == 0 {
		return nil
	}
	if !s.engine.ChecksImport() {
		return s.sessions.judgeAgain(netip.Addr{}, gobgp.In)
	}
	if err := s.engine.ImportAgain(func(p netip.Prefix) bool { return own.holding(p).IsValid() }); err != nil {
		return fmt.Errorf("evaluate announcements inside own prefixes again: %w", err)
	}
	return nil
}
