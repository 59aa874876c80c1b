package bgp

import (
	"fmt"

	"onlink/bgp/policy"
)

// installPolicyLocked computes the policy of the desired peers and own prefixes
// and puts it in force. ending are own prefixes that are about to be withdrawn.
func (s *Speaker) installPolicyLocked(ending ...Origin) error {
	node, want := s.cfg.policyNode(), s.sessions.want
	plan := policy.NewPlan(&node, policyPeers(want.peers), policyRanges(want.dynamics), policyOwn(s.origins, ending...))
	if err := s.engine.InstallPolicy(plan); err != nil {
		return fmt.Errorf("install policy: %w", err)
	}
	s.plan = plan
	s.storeGuardLocked()
	return nil
}

// storeGuardLocked replaces the guard, which the engine uses from the next path on.
func (s *Speaker) storeGuardLocked() {
	node, want := s.cfg.policyNode(), s.sessions.want
	s.guard.current.Store(policy.NewGuard(&node, policyPeers(want.peers), policyRanges(want.dynamics), s.guard.facts))
}
