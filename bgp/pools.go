package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
)

// SetPools replaces Config.Pools: the routes of iBGP peers are judged again,
// and no session is touched. It wraps [ErrConfig] for a prefix that is none.
func (s *Speaker) SetPools(_ context.Context, pools []netip.Prefix) error {
	for _, p := range pools {
		if err := validPrefix("Pools", p); err != nil {
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
	return s.softResetLocked("", softIn)
}
