package bgp

import (
	"context"
	"errors"
	"slices"

	"onlink/bgp/gobgp"
	"onlink/bgp/policy"
)

// SetNetworks replaces the subnets of this node: the next hops of a peer of
// another AS must be on one that it shares, unless
// Import.DisableConnectedCheck. Before the first call this is not checked. The
// routes of the peers whose subnets changed are judged again.
func (s *Speaker) SetNetworks(_ context.Context, networks []policy.Network) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	had := s.guard.facts
	if had.NetworksKnown && slices.Equal(had.Networks, networks) {
		return nil
	}
	s.guard.facts.Networks, s.guard.facts.NetworksKnown = slices.Clone(networks), true
	if !s.started || !s.engine.ChecksImport() {
		return nil
	}
	s.storeGuardLocked()
	var errs []error
	for addr, p := range s.sessions.want.peers {
		if seen := p.policy(); p.Role == EBGP && (!had.NetworksKnown || !slices.Equal(seen.Shared(had.Networks), seen.Shared(networks))) {
			errs = append(errs, s.sessions.judgeAgain(addr, gobgp.In))
		}
	}
	return errors.Join(errs...)
}
