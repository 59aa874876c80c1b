package dataplane

import (
	"net/netip"
	"slices"

	"onlink/nft"
)

// rereadAfter is how many times the chains of nftables are taken as read because
// the ruleset's generation is the same: a table that goes with its owner (nft(8),
// flag owner) does not change it.
const rereadAfter = 12

// ruleset finds the chains that drop packets between pods. It reads those of
// nftables only after a change: on a node at rest they are most of its work.
type ruleset struct {
	generation uint32 // of the ruleset that found is from; 0: not known
	pools      []netip.Prefix
	found      []nft.Obstacle
	kept       int // times that found was returned as it is
}

// obstacles returns the chains that drop packets of the pools.
func (r *ruleset) obstacles(pools []netip.Prefix) ([]nft.Obstacle, error) {
	generation, err := nft.Generation() // before the chains: a later change shows
	if err != nil {
		generation = 0
	}
	if generation != 0 && generation == r.generation && slices.Equal(pools, r.pools) && r.kept < rereadAfter {
		r.kept++
	} else if err := r.read(generation, pools); err != nil {
		return nil, err
	}
	legacy, err := nft.LegacyObstacles(pools) // these tables have no generation
	return slices.Concat(r.found, legacy), err
}

// read reads the chains of nftables.
func (r *ruleset) read(generation uint32, pools []netip.Prefix) error {
	*r = ruleset{}
	found, err := nft.Obstacles(pools)
	switch {
	case err == nil:
		*r = ruleset{generation: generation, pools: pools, found: found}
	case nft.Supported() == nil:
		return err
	}
	return nil // or this kernel has no such tables
}
