package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"onlink/bgp/gobgp"
	"onlink/bgp/policy"
)

// SetPools replaces Config.Pools: the announcements of the peers are judged again,
// and no session is touched. It wraps [ErrConfig] for an invalid pool.
func (s *Speaker) SetPools(_ context.Context, pools []policy.Pool) error {
	for _, p := range pools {
		if err := invalid(p.Validate("pools")); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(s.cfg.Pools, pools) {
		return nil
	}
	had := s.cfg.Pools
	s.cfg.Pools = slices.Clone(pools)
	if !s.started {
		return nil
	}
	if err := s.installPolicyLocked(); err != nil {
		s.cfg.Pools = had
		return fmt.Errorf("set pools: %w", err)
	}
	return s.sessions.judgeAgain(netip.Addr{}, gobgp.In)
}
