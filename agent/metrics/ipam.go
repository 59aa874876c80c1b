package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"onlink/agent/state"
)

// ipamMetrics are the metrics of addresses and blocks.
type ipamMetrics struct {
	blocks, used, total                                                  *prometheus.Desc
	lost, contested, registry, registryErrors, assigned, released, swept *prometheus.Desc
	commits, commitErrors, claims                                        *prometheus.Desc
	poolUsed, poolSize, poolCooling, poolFull, poolClaimed               *prometheus.Desc
}

func newIPAMMetrics() ipamMetrics {
	return ipamMetrics{
		blocks:         describe("ipam_blocks", "Blocks owned by this node."),
		used:           describe("ipam_addresses_used", "Addresses assigned to pods of this node."),
		total:          describe("ipam_addresses_total", "Addresses in the blocks of this node."),
		lost:           describe("ipam_blocks_lost", "Blocks in this node's database that another node owns now."),
		contested:      describe("ipam_blocks_contested", "Blocks that two nodes announce to this node: its own blocks, and on a reflector any."),
		registry:       describe("ipam_registry_up", "1 when the block registry answered the last call."),
		registryErrors: describe("ipam_registry_errors_total", "Calls to the block registry without an answer."),
		assigned:       describe("ipam_assigned_total", "Attachments that got addresses."),
		released:       describe("ipam_released_total", "Attachments whose addresses were freed."),
		swept:          describe("ipam_swept_total", "Attachments freed because their pod ended without a DEL."),
		commits:        describe("ipam_commits_total", "Transactions of the database."),
		commitErrors:   describe("ipam_commit_errors_total", "Transactions of the database that failed."),
		claims:         describe("ipam_claims_total", "Blocks claimed or adopted."),
		poolUsed:       describe("ipam_pool_addresses_used", "Addresses of the pool in use on this node.", "pool"),
		poolSize:       describe("ipam_pool_addresses_total", "Addresses of the pool in this node's blocks.", "pool"),
		poolCooling:    describe("ipam_pool_addresses_cooling", "Released addresses in their cooldown.", "pool"),
		poolFull:       describe("ipam_pool_without_free_block", "1 when the registry had no free block of the pool at the last claim.", "pool"),
		poolClaimed:    describe("ipam_pool_claimed_ratio", "Share of the pool that nodes own; only on the agent with the registry.", "pool"),
	}
}

func (m *ipamMetrics) collect(s *state.Snapshot, out sink) {
	i := &s.IPAM
	used, total := i.Addresses()
	out.gauge(m.blocks, float64(len(i.Blocks)))
	out.gauge(m.used, float64(used))
	out.gauge(m.total, float64(total))
	out.gauge(m.lost, float64(i.Stats.LostBlocks))
	out.gauge(m.contested, float64(len(s.Contested())))
	out.gauge(m.registry, one(i.Stats.RegistryLastError == ""))
	out.counter(m.registryErrors, float64(i.Stats.RegistryErrors))
	out.counter(m.assigned, float64(i.Stats.Assigned))
	out.counter(m.released, float64(i.Stats.Released))
	out.counter(m.swept, float64(i.Swept))
	out.counter(m.commits, float64(i.Stats.Commits))
	out.counter(m.commitErrors, float64(i.Stats.CommitErrors))
	out.counter(m.claims, float64(i.Stats.Claims))
	claimed := i.Claimed()
	for _, u := range i.Pools {
		out.gauge(m.poolUsed, float64(u.Used), u.Name)
		out.gauge(m.poolSize, float64(u.Size), u.Name)
		out.gauge(m.poolCooling, float64(u.Cooling), u.Name)
		out.gauge(m.poolFull, one(u.NoFreeBlock), u.Name)
		if share, ok := claimed[u.Name]; ok {
			out.gauge(m.poolClaimed, share, u.Name)
		}
	}
}
