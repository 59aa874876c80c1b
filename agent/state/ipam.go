package state

import (
	"fmt"
	"math"
	"net/netip"

	"onlink/ipam"
)

// From these shares of a pool on, status and metrics warn that it runs out.
const (
	poolLow  = 0.80
	poolFull = 0.95
)

// StandingText returns why this machine assigns no address, as text for status;
// "" when it does.
func (s *IPAM) StandingText() string {
	if s.Standing == nil {
		return ""
	}
	text := "identity: " + s.Standing.Error()
	if n := s.Stats.Assignments; n > 0 {
		text += fmt.Sprintf("; the addresses of %d pods are kept until they end", n)
	}
	return text
}

// problems returns the faults of blocks, registry and pools.
func (s *IPAM) problems() []string {
	var out []string
	standing := s.StandingText()
	if standing != "" {
		out = append(out, standing)
	}
	for _, b := range s.Blocks {
		if text := blockProblem(b); text != "" && standing == "" {
			out = append(out, text)
		}
	}
	for _, q := range s.Quarantined {
		out = append(out, q.String())
	}
	for _, as := range s.Homeless {
		out = append(out, fmt.Sprintf("pod %s/%s: its address %v is in no pool: the pod keeps it; add the pool again, or delete the pod", as.Namespace, as.Pod, as.Addresses))
	}
	switch {
	case s.Stats.RegistryLastError != "":
		out = append(out, fmt.Sprintf("registry: %s; pods start from held blocks only", s.Stats.RegistryLastError))
	case s.HalfFailed != nil:
		out = append(out, fmt.Sprintf("registry: %v; blocks come from the other half", s.HalfFailed))
	}
	if s.Stats.CommitErrors > 0 {
		out = append(out, fmt.Sprintf("database: %d writes failed since the start: check the disk of %s", s.Stats.CommitErrors, s.Database))
	}
	claimed := s.Claimed()
	for _, u := range s.Pools {
		if text := poolProblem(u, claimed[u.Name]); text != "" {
			out = append(out, text)
		}
	}
	return out
}

// blockProblem returns the problem of a block for the operator, or "".
func blockProblem(b ipam.BlockUsage) string {
	switch {
	case b.Doubtful && !b.Confirmed:
		return fmt.Sprintf("block %s: the database has it, and the last run did not announce it (is the database an older copy?): it is neither announced nor used until the registry has named its owner", b.CIDR)
	case b.Doubtful:
		return fmt.Sprintf("block %s: recorded for the %d pods in it, it assigns no address until the registry has named its owner", b.CIDR, b.Used)
	case b.Poolless && b.Used > 0 && b.Confirmed:
		return fmt.Sprintf("block %s: its pool %s is no longer in the file, and %d addresses of it are in use: the pods keep them; add the pool again (disabled: true), or delete the pods", b.CIDR, b.Pool, b.Used)
	case b.Confirmed || b.Used == 0: // an empty one that is being released is no problem
		return ""
	}
	return fmt.Sprintf("block %s: belongs to another node now, %d pods here have its addresses and are unreachable: delete them", b.CIDR, b.Used)
}

// poolProblem warns of a pool that runs out; claimed is the share of it that
// nodes own, as far as this node can see.
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
		return fmt.Sprintf("pool %s %s: nodes own %.0f %% of %s; add a pool, or free blocks of dead nodes (onlinkctl ipam release-node)", u.Name, word(claimed), 100*claimed, u.CIDR)
	case u.NoFreeBlock && used >= poolLow:
		return fmt.Sprintf("pool %s %s: no free block in %s, and %d of the %d addresses this node has are in use; add a pool", u.Name, word(used), u.CIDR, u.Used, u.Size)
	}
	return ""
}

// Claimed returns the share of each pool, by name, that nodes own: 0 to 1. It
// is nil where the blocks of other nodes are not known.
func (s *IPAM) Claimed() map[string]float64 {
	if s.Registered == nil {
		return nil
	}
	out := map[string]float64{}
	for _, u := range s.Pools {
		out[u.Name] = claimedShare(u.CIDR, s.Registered)
	}
	return out
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
