package agent

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// ipamMetrics are the metrics of addresses and blocks.
type ipamMetrics struct {
	lost, contested, registry, registryErrors, assigned, released, swept *prometheus.Desc
	commits, commitErrors, claims                                        *prometheus.Desc
	poolUsed, poolSize, poolCooling, poolFull, poolClaimed               *prometheus.Desc
}

func newIPAMMetrics(d func(name, help string, labels ...string) *prometheus.Desc) ipamMetrics {
	return ipamMetrics{
		lost:           d("ipam_blocks_lost", "Blocks held by this node that belong to another one now."),
		contested:      d("ipam_blocks_contested", "Blocks that two nodes announce, as far as this node hears of it: its own ones, and on a reflector any."),
		registry:       d("ipam_registry_up", "1 when the block registry answered the last call."),
		registryErrors: d("ipam_registry_errors_total", "Calls to the block registry without an answer."),
		assigned:       d("ipam_assigned_total", "Attachments that got addresses."),
		released:       d("ipam_released_total", "Attachments whose addresses were freed."),
		swept:          d("ipam_swept_total", "Attachments freed because their pod ended without a DEL."),
		commits:        d("ipam_commits_total", "Transactions of the database."),
		commitErrors:   d("ipam_commit_errors_total", "Transactions of the database that failed."),
		claims:         d("ipam_claims_total", "Blocks claimed or adopted."),
		poolUsed:       d("ipam_pool_addresses_used", "Addresses of the pool in use on this node.", "pool"),
		poolSize:       d("ipam_pool_addresses_total", "Addresses of the pool in this node's blocks.", "pool"),
		poolCooling:    d("ipam_pool_addresses_cooling", "Freed addresses that rest before they are used again.", "pool"),
		poolFull:       d("ipam_pool_without_free_block", "1 when the registry had no free block of the pool when last asked.", "pool"),
		poolClaimed:    d("ipam_pool_claimed_ratio", "Share of the pool that nodes own; only where the registry is.", "pool"),
	}
}

// collect sends the metrics as they are now.
func (m *ipamMetrics) collect(ctx context.Context, a *agent, ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, n uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
	s := a.alloc.Stats()
	gauge(m.lost, float64(s.LostBlocks))
	if contested, err := a.contested(ctx); err != nil {
		ch <- prometheus.NewInvalidMetric(m.contested, err)
	} else {
		gauge(m.contested, float64(len(contested)))
	}
	gauge(m.registry, one(s.RegistryLastError == ""))
	counter(m.registryErrors, s.RegistryErrors)
	counter(m.assigned, s.Assigned)
	counter(m.released, s.Released)
	counter(m.swept, a.swept.Load())
	counter(m.commits, s.Commits)
	counter(m.commitErrors, s.CommitErrors)
	counter(m.claims, s.Claims)
	claimed := a.claimedShares(ctx)
	for _, u := range a.alloc.PoolUsages() {
		gauge(m.poolUsed, float64(u.Used), u.Name)
		gauge(m.poolSize, float64(u.Size), u.Name)
		gauge(m.poolCooling, float64(u.Cooling), u.Name)
		gauge(m.poolFull, one(u.NoFreeBlock), u.Name)
		if share, ok := claimed[u.Name]; ok {
			gauge(m.poolClaimed, share, u.Name)
		}
	}
}
