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
// they are withdrawn.
func (s *Speaker) moveOriginsLocked(m moves) error {
	if m.fresh {
		if err := s.installPolicyLocked(); err != nil {
			return err
		}
	}
	for _, o := range m.announce {
		r := o.route(&s.cfg)
		if err := s.engine.Announce(&r); err != nil {
			return fmt.Errorf("announce own prefixes: %w", err)
		}
	}
	if len(m.withdraw) == 0 {
		return nil
	}
	for _, o := range m.withdraw {
		r := o.route(&s.cfg)
		if err := s.engine.Withdraw(&r); err != nil {
			return fmt.Errorf("withdraw own prefixes: %w", err)
		}
	}
	if err := s.installPolicyLocked(); err != nil {
		return err
	}
	// A peer may have announced a withdrawn prefix while we originated it.
	return s.sessions.judgeAgain(netip.Addr{}, gobgp.In)
}
