package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"onlink/agent/state"
)

// calls are the methods of the block registry. Their series are there before the first
// call, as those of verbs.
var calls = []string{"Claim", "Release", "Assert", "List", "TakeOver"}

// ipamMetrics are the metrics of addresses and blocks.
type ipamMetrics struct {
	blocks, used, total                                                  *prometheus.Desc
	lost, contested, registry, registryErrors, assigned, released, swept *prometheus.Desc
	commits, commitErrors, claims, calls                                 *prometheus.Desc
	poolUsed, poolSize, poolCooling, poolFull, poolClaimed               *prometheus.Desc
}

func newIPAMMetrics(c *catalogue) ipamMetrics {
	return ipamMetrics{
		blocks:         c.gauge("ipam_blocks", "Blocks owned by this node."),
		used:           c.gauge("ipam_addresses_used", "Addresses assigned to pods of this node."),
		total:          c.gauge("ipam_addresses", "Addresses in the blocks of this node."),
		lost:           c.gauge("ipam_blocks_lost", "Blocks in this node's database that another node owns now."),
		contested:      c.gauge("ipam_blocks_contested", "Blocks that two nodes announce to this node: its own blocks, and on a reflector any."),
		registry:       c.gauge("ipam_registry_up", "1 when the block registry answered the last call."),
		registryErrors: c.counter("ipam_registry_errors_total", "Calls to the block registry without an answer."),
		assigned:       c.counter("ipam_assigned_total", "Attachments that got addresses."),
		released:       c.counter("ipam_released_total", "Attachments whose addresses were freed."),
		swept:          c.counter("ipam_swept_total", "Attachments freed because their pod ended without a DEL."),
		commits:        c.counter("ipam_commits_total", "Transactions of the database."),
		commitErrors:   c.counter("ipam_commit_errors_total", "Transactions of the database that failed."),
		claims:         c.counter("ipam_claims_total", "Blocks claimed or adopted."),
		calls:          c.histogram("ipam_registry_call_duration_seconds", "Duration of this node's calls to the block registry for its own blocks, answered or not.", among("call", strings.Join(calls, ", "))),
		poolUsed:       c.gauge("ipam_pool_addresses_used", "Addresses of the pool in use on this node.", poolLabel),
		poolSize:       c.gauge("ipam_pool_addresses", "Addresses of the pool in this node's blocks.", poolLabel),
		poolCooling:    c.gauge("ipam_pool_addresses_cooling", "Released addresses in their cooldown.", poolLabel),
		poolFull:       c.gauge("ipam_pool_without_free_block", "1 when the registry had no free block of the pool at the last claim.", poolLabel),
		poolClaimed:    c.gauge("ipam_pool_claimed_ratio", "Share of the pool that nodes own; only on the agent with the registry.", poolLabel),
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
	for _, call := range calls {
		took := i.Stats.RegistryCalls[call]
		out.histogram(m.calls, &took, call)
	}
	m.pools(i, out)
}

// pools sends the series of each pool.
func (m *ipamMetrics) pools(i *state.IPAM, out sink) {
	claimed := i.Claimed()
	for _, u := range i.Pools[:min(len(i.Pools), maxListSeries)] {
		out.gauge(m.poolUsed, float64(u.Used), u.Name)
		out.gauge(m.poolSize, float64(u.Size), u.Name)
		out.gauge(m.poolCooling, float64(u.Cooling), u.Name)
		out.gauge(m.poolFull, one(u.NoFreeBlock), u.Name)
		if share, ok := claimed[u.Name]; ok {
			out.gauge(m.poolClaimed, share, u.Name)
		}
	}
}
