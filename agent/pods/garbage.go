package pods

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"onlink/cni"
	"onlink/cni/pod"
	"onlink/ipam"
)

// sweepEvery is the interval of the search for pods that ended without a DEL.
// It checks one path per pod.
const sweepEvery = 5 * time.Second

// Sweeper frees the addresses of ended pods: a [cni.Server].
type Sweeper interface {
	Sweep(ctx context.Context) ([]cni.Attachment, error)
}

// Quarantines are the addresses that are kept out of use for pods that must not
// have them: an [ipam.Allocator].
type Quarantines interface {
	Quarantined() []ipam.Quarantine
	EndQuarantine(h ipam.Handle)
	ByAddress(addr netip.Addr) (ipam.Assignment, bool)
}

// Collector frees the addresses of pods that ended without a DEL: a runtime
// that crashed, or an ADD whose agent was killed before it answered.
type Collector struct {
	Log    *slog.Logger
	Server Sweeper
	Alloc  Quarantines
	Routes *Routes

	wired func() ([]pod.Wired, error) // nil: [pod.ListWired]; set by tests
	swept atomic.Uint64
}

// Swept returns how many attachments were freed. It may be called by any
// goroutine.
func (c *Collector) Swept() uint64 { return c.swept.Load() }

// Run frees addresses until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		freed, err := c.Server.Sweep(ctx)
		c.swept.Add(uint64(len(freed)))
		err = errors.Join(err, c.endQuarantines())
		if err != nil && !failing && ctx.Err() == nil {
			c.Log.Warn("failed to free addresses of ended pods", "err", err)
		}
		failing = err != nil
	}
}

// endQuarantines ends the quarantine of addresses whose pods have ended.
func (c *Collector) endQuarantines() error {
	kept := c.Alloc.Quarantined()
	if len(kept) == 0 {
		return nil
	}
	list := c.wired
	if list == nil {
		list = pod.ListWired
	}
	wired, err := list()
	if err != nil {
		return err
	}
	for _, q := range kept {
		if slices.ContainsFunc(wired, func(w pod.Wired) bool { return Handle(w.Attachment) == q.Handle && !w.Ended }) {
			continue
		}
		c.Alloc.EndQuarantine(q.Handle)
		if _, owned := c.Alloc.ByAddress(q.Address); !owned {
			c.Routes.DeletePod(netip.PrefixFrom(q.Address, q.Address.BitLen()))
		}
		c.Log.Info("a pod whose address was kept out of use has ended", "namespace", q.Namespace, "pod", q.Pod, "address", q.Address)
	}
	return nil
}
