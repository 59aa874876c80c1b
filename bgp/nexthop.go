package bgp

import (
	"context"
	"errors"
	"slices"

	"onlink/bgp/policy"
)

// SetNetworks says which subnets this node is in: the next hops of a peer of
// another AS must be on one that it shares, unless Import.DisableConnectedCheck. Before
// the first call that is not asked for. The routes of the peers whose subnets
// changed are judged again.
func (s *Speaker) SetNetworks(_ context.Context, networks []policy.Network) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.networksKnown && slices.Equal(s.networks, networks) {
		return nil
	}
	had, known := s.networks, s.networksKnown
	s.networks, s.networksKnown = slices.Clone(networks), true
	if !s.started {
		return nil
	}
	if _, able := any(s.engine).(importer); !able {
		return nil
	}
	s.storeGuardLocked()
	var errs []error
	for addr, p := range s.peers {
		if seen := p.policy(); p.Role == EBGP && (!known || !slices.Equal(seen.Shared(had), seen.Shared(networks))) {
			errs = append(errs, s.softResetLocked(addr.String(), softIn))
		}
	}
	return errors.Join(errs...)
}
