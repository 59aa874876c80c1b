package bgp

import (
	"context"
	"fmt"
	"maps"

	"onlink/bgp/policy"
)

// SetOwners replaces the owners of blocks: inside a pool, a route of a peer of our
// AS that leads to another node than the owner is refused. A block that is not
// among them, or whose owner's address is missing, has no owner yet: the node
// that announced it first keeps it. Only the announcements of blocks whose owner
// changed are judged again. It wraps [ErrConfig] for an invalid prefix.
func (s *Speaker) SetOwners(_ context.Context, blocks []policy.Block) error {
	for _, b := range blocks {
		if err := validPrefix("Owners", b.Prefix); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	had, next := s.guard.facts.Owners, policy.NewOwners(blocks)
	s.guard.facts.Owners = next
	diff := had.Changed(next)
	if len(diff) == 0 && had.SameNodes(next) {
		return nil
	}
	s.storeGuardLocked()
	if !s.started || len(diff) == 0 {
		return nil
	}
	if err := s.engine.ImportAgain(policy.NewOverlaps(maps.Keys(diff)).Touch); err != nil {
		return fmt.Errorf("evaluate announcements of blocks again: %w", err)
	}
	return nil
}
