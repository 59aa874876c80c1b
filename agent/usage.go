package agent

import (
	"context"
	"fmt"
	"math"
	"net/netip"

	"onlink/agent/config"
	"onlink/ipam"
)

// From these shares of a pool on, status and metrics warn that it runs out.
const (
	poolLow  = 0.80
	poolFull = 0.95
)

// ipamProblems says what an operator should know of blocks, registry and
// pools.
func (a *agent) ipamProblems(ctx context.Context) []string {
	var out []string
	s := a.alloc.Stats()
	standing := a.standing()
	if standing != "" {
		out = append(out, standing)
	}
	for _, b := range a.alloc.Blocks() {
		if text := blockProblem(b); text != "" && standing == "" {
			out = append(out, text)
		}
	}
	for _, q := range a.alloc.Quarantined() {
		out = append(out, q.String())
	}
	for _, as := range a.alloc.Homeless() {
		out = append(out, fmt.Sprintf("pod %s/%s: its address %v is in no pool: it keeps it; add the pool again, or delete the pod", as.Namespace, as.Pod, as.Addresses))
	}
	if s.RegistryLastError != "" {
		out = append(out, fmt.Sprintf("registry: %s; pods start from held blocks only", s.RegistryLastError))
	}
	if split, ok := a.registry.(*ipam.Split); ok && s.RegistryLastError == "" {
		if err := split.Problem(); err != nil {
			out = append(out, fmt.Sprintf("registry: %v; blocks come from the other half", err))
		}
	}
	if s.CommitErrors > 0 {
		out = append(out, fmt.Sprintf("database: %d writes failed since the start: look at the disk of %s", s.CommitErrors, a.store.Path()))
	}
	claimed := a.claimedShares(ctx)
	for _, u := range a.alloc.PoolUsages() {
		if text := poolProblem(u, claimed[u.Name]); text != "" {
			out = append(out, text)
		}
	}
	return out
}

// blockProblem says what an operator should know of a block.
func blockProblem(b ipam.BlockUsage) string {
	switch {
	case b.Doubtful && !b.Confirmed:
		return fmt.Sprintf("block %s: the database has it, and the last run did not announce it (is the database an older copy?): it is not announced and gives no address until the registry has said whose it is", b.CIDR)
	case b.Doubtful:
		return fmt.Sprintf("block %s: entered for the %d pods in it, it gives no address until the registry has said whose it is", b.CIDR, b.Used)
	case b.Poolless && b.Used > 0 && b.Confirmed:
		return fmt.Sprintf("block %s: its pool %s is not in the file any more, and %d addresses of it are in use: the pods keep them; add the pool again (disabled: true), or delete the pods", b.CIDR, b.Pool, b.Used)
	case b.Confirmed || b.Used == 0: // an empty one that is given back is no trouble
		return ""
	}
	return fmt.Sprintf("block %s: belongs to another node now, %d pods here have its addresses and cannot be reached: delete them", b.CIDR, b.Used)
}

// poolProblem warns of a pool that runs out; claimed is the share of it that
// nodes own, as far as this node knows.
func poolProblem(u ipam.PoolUsage, claimed float64) string {
	word := func(share float64) string {
		if share >= poolFull {
			return "is full"
		}
		return "runs out"
	}
	used := 0.0
	if u.Size > 0 {
		used = float64(u.Used) / float64(u.Size)
	}
	switch {
	case u.Disabled, u.Elsewhere:
		return ""
	case claimed >= poolLow:
		return fmt.Sprintf("pool %s %s: nodes own %.0f %% of %s; add a pool, or free blocks of nodes that are gone (onlinkctl ipam release-node)", u.Name, word(claimed), 100*claimed, u.CIDR)
	case u.NoFreeBlock && used >= poolLow:
		return fmt.Sprintf("pool %s %s: no free block in %s, and %d of the %d addresses this node has are in use; add a pool", u.Name, word(used), u.CIDR, u.Used, u.Size)
	}
	return ""
}

// claimedShares returns what share of each pool is owned by nodes, when this
// agent has the registry itself; empty otherwise.
func (a *agent) claimedShares(ctx context.Context) map[string]float64 {
	all := a.registered(ctx)
	if all == nil {
		return nil
	}
	out := map[string]float64{}
	for _, u := range a.alloc.PoolUsages() {
		out[u.Name] = claimedShare(u.CIDR, all)
	}
	return out
}

// registered returns every node's blocks, when this agent has the registry
// itself; nil otherwise.
func (a *agent) registered(ctx context.Context) []ipam.Block {
	if a.current().IPAM.Registry.Kind != config.RegistryBolt {
		return nil
	}
	all, err := a.listRegistry(ctx) // of a split one: the other agent's half too
	if err != nil {
		return nil // the registry's own error is a problem of its own
	}
	return all
}

// claimedShare returns the share of pool that the blocks inside it take.
func claimedShare(pool netip.Prefix, blocks []ipam.Block) float64 {
	share := 0.0
	for _, b := range blocks {
		if pool.Contains(b.CIDR.Addr()) {
			share += math.Exp2(float64(pool.Bits() - b.CIDR.Bits()))
		}
	}
	return share
}
