package bgp

import (
	"context"
	"fmt"

	api "github.com/osrg/gobgp/v3/api"

	"onlink/bgp/policy"
)

// installPolicyLocked computes the policy of the desired peers and own
// prefixes and puts it in force. Each direction switches at once from the
// old policy to the new one; what neither accepts is refused by the default.
func (s *Speaker) installPolicyLocked() error {
	node := s.cfg.policyNode()
	plan := policy.NewPlan(&node, policyPeers(s.peers), policyRanges(s.dynamics), policyOwn(s.origins))
	s.policyGen++
	next := buildPolicy(plan, s.policyGen)
	if err := s.definePolicy(next); err != nil {
		return fmt.Errorf("install policy: %w", err)
	}
	old := s.installed
	s.installed, s.plan = next, plan
	s.storeGuardLocked()
	if old != nil {
		if err := s.deletePolicy(old); err != nil {
			s.log.Warn("removal of the replaced policy did not succeed", "error", err)
		}
	}
	return nil
}

// definePolicy adds the sets and policies of b and assigns them.
func (s *Speaker) definePolicy(b *policyBuild) error {
	ctx := context.Background()
	for _, set := range b.sets {
		if err := s.engine.AddDefinedSet(ctx, &api.AddDefinedSetRequest{DefinedSet: set}); err != nil {
			return fmt.Errorf("define set %s: %w", set.GetName(), err)
		}
	}
	for _, a := range b.assignments() {
		if err := s.engine.AddPolicy(ctx, &api.AddPolicyRequest{Policy: a.GetPolicies()[0]}); err != nil {
			return fmt.Errorf("define policy: %w", err)
		}
		if err := s.engine.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: a}); err != nil {
			return fmt.Errorf("assign policy: %w", err)
		}
	}
	return nil
}

// deletePolicy removes a policy that is no longer assigned, and its sets.
func (s *Speaker) deletePolicy(b *policyBuild) error {
	ctx := context.Background()
	for _, a := range b.assignments() {
		if err := s.engine.DeletePolicy(ctx, &api.DeletePolicyRequest{Policy: &api.Policy{Name: a.GetPolicies()[0].GetName()}, All: true}); err != nil {
			return fmt.Errorf("delete policy: %w", err)
		}
	}
	for _, set := range b.sets {
		if err := s.engine.DeleteDefinedSet(ctx, &api.DeleteDefinedSetRequest{DefinedSet: set, All: true}); err != nil {
			return fmt.Errorf("delete set %s: %w", set.GetName(), err)
		}
	}
	return nil
}

// assignments returns the two global assignments of b.
func (b *policyBuild) assignments() []*api.PolicyAssignment {
	return []*api.PolicyAssignment{
		{
			Name: "global", Direction: api.PolicyDirection_IMPORT,
			DefaultAction: api.RouteAction_REJECT,
			Policies:      []*api.Policy{{Name: b.gen + "-import", Statements: b.imports}},
		},
		{
			Name: "global", Direction: api.PolicyDirection_EXPORT,
			DefaultAction: api.RouteAction_REJECT,
			Policies:      []*api.Policy{{Name: b.gen + "-export", Statements: b.exports}},
		},
	}
}
