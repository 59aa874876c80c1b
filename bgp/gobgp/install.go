package gobgp

import (
	"context"
	"fmt"
	"log/slog"

	api "github.com/osrg/gobgp/v3/api"

	"onlink/bgp/policy"
)

// InstallPolicy puts p in force. Each direction switches at once from the previous
// policy to the new one; the default refuses a route that no statement decides. It
// must not be called by several goroutines at once.
func (e *Engine) InstallPolicy(p *policy.Plan) error {
	e.policies++
	next := buildPolicy(p, e.policies)
	if err := e.definePolicy(next); err != nil {
		return err
	}
	old := e.installed
	e.installed = next
	if old == nil {
		return nil
	}
	if err := e.deletePolicy(old); err != nil { // the leftover costs only memory
		e.reporter.Record(slog.LevelWarn, Record{Text: "failed to remove the replaced policy", Err: err.Error()})
	}
	return nil
}

// definePolicy adds the sets and policies of b and assigns them.
func (e *Engine) definePolicy(b *policyBuild) error {
	ctx := context.Background()
	for _, set := range b.sets {
		if err := e.server.AddDefinedSet(ctx, &api.AddDefinedSetRequest{DefinedSet: set}); err != nil {
			return fmt.Errorf("define set %s: %w", set.GetName(), err)
		}
	}
	for _, a := range b.assignments() {
		if err := e.server.AddPolicy(ctx, &api.AddPolicyRequest{Policy: a.GetPolicies()[0]}); err != nil {
			return fmt.Errorf("define policy: %w", err)
		}
		if err := e.server.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: a}); err != nil {
			return fmt.Errorf("assign policy: %w", err)
		}
	}
	return nil
}

// deletePolicy removes a policy that is no longer assigned, and its sets.
func (e *Engine) deletePolicy(b *policyBuild) error {
	ctx := context.Background()
	for _, a := range b.assignments() {
		if err := e.server.DeletePolicy(ctx, &api.DeletePolicyRequest{Policy: &api.Policy{Name: a.GetPolicies()[0].GetName()}, All: true}); err != nil {
			return fmt.Errorf("delete policy: %w", err)
		}
	}
	for _, set := range b.sets {
		if err := e.server.DeleteDefinedSet(ctx, &api.DeleteDefinedSetRequest{DefinedSet: set, All: true}); err != nil {
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
