package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"onlink/agent/announce"
	"onlink/agent/drain"
	"onlink/agent/node"
	"onlink/agent/rooms"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/ipam"
)

// originate is the originate flow behind the CNI service: the blocks that ipam
// confirms become blackhole routes here and announcements to the peers.
type originate struct {
	log     *slog.Logger
	alloc   *ipam.Allocator
	learn   *learn
	speaker *bgp.Speaker
	own     []netip.Prefix // blocks as of the last round
	summed  []netip.Prefix // aggregates as of the last round
	node    node.Identity  // its addresses are the next hops
	drain   *drain.Drain
	// announced are the prefixes of others that this node announces. They have no
	// drop route: the service proxy of the node answers for them.
	announced *announce.Announcements
	facts     func() announce.Facts
	// edited has room for one signal: configure sends, nothing closes it; full
	// means that Run has not yet received the last signal.
	edited chan struct{}

	mu    sync.Mutex     // guards the fields below, which come from the configuration
	extra []netip.Prefix // announced besides the blocks
	sums  []netip.Prefix // announced instead of the blocks, to the peers with aggregates configured
}

// originateRetry is the wait between a failed round and the next one.
const originateRetry = 5 * time.Second

// Run follows the set of confirmed blocks until ctx ends. It withdraws nothing
// then: peers keep the routes while the agent restarts (RFC 4724).
func (o *originate) Run(ctx context.Context) error {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		var over <-chan time.Time // the end of the drain's wait; nil: none
		if _, rest := o.drain.Now(); rest > 0 {
			over = time.After(rest)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-o.alloc.Changed():
		case <-o.drain.Changed():
		case <-o.announced.Changed():
		case <-o.edited:
		case <-over:
		case <-retry.C:
		}
		retry.Stop()
		if err := o.round(ctx, o.learn.setOwn); err != nil && ctx.Err() == nil {
			o.log.Error("failed to announce blocks, retrying", "err", err, "wait", originateRetry)
			retry.Reset(originateRetry)
		}
	}
}

// round brings routes and announcements to the confirmed blocks. The order
// prevents a loop of packets: the drop route is installed before the
// announcement, and removed after the withdrawal.
func (o *originate) round(ctx context.Context, setOwn func(ctx context.Context, blocks, aggregates []netip.Prefix) error) error {
	next := state.Confirmed(o.alloc.Blocks())
	extra, aggregates := o.configured()
	sums := contributed(aggregates, slices.Concat(next, extra))
	if err := setOwn(ctx, slices.Concat(next, o.own), slices.Concat(sums, o.summed)); err != nil {
		return fmt.Errorf("install drop routes: %w", err)
	}
	at, _ := o.drain.Now()
	o.alloc.SetDraining(at == drain.Drained)
	origins := o.origins(at, slices.Concat(next, extra), sums)
	services, version := o.services(slices.Concat(extra, aggregates), next, at)
	origins = append(origins, services...)
	if err := o.speaker.SetOrigins(ctx, origins); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	o.drain.Announced(at, len(origins))
	o.announced.Sent(version)
	if err := setOwn(ctx, next, sums); err != nil {
		return fmt.Errorf("remove drop routes: %w", err)
	}
	if !slices.Equal(o.own, next) || !slices.Equal(o.summed, sums) {
		o.log.Info("blocks announced", "blocks", next, "aggregates", sums)
	}
	o.own, o.summed = next, sums
	return nil
}

// origins returns the announcements of prefixes of the node's own, and of aggregates. One
// that is in both lists, or twice in one, is announced once: a file may name the block
// that the registry gave this node, and the speaker rejects a set with a prefix twice.
func (o *originate) origins(at drain.Phase, own, sums []netip.Prefix) (out []bgp.Origin) {
	seen := map[netip.Prefix]bool{}
	add := func(list []netip.Prefix, aggregate bool) {
		for _, p := range list {
			if !seen[p] && at != drain.Drained && o.node.Reaches(p) {
				seen[p] = true
				out = append(out, bgp.Origin{Prefix: p, Draining: at == drain.Leaving, Aggregate: aggregate})
			}
		}
	}
	add(own, false)
	add(sums, true)
	return out
}

// services returns the announcements of owners that fit what this round announces
// besides, and their version. They contribute to no aggregate: its drop route would
// take the packets that the node itself sends to a service.
func (o *originate) services(others, blocks []netip.Prefix, at drain.Phase) ([]bgp.Origin, uint64) {
	f := o.facts()
	f.Blocks, f.Others = blocks, others
	list, version := o.announced.Judge(f)
	if at == drain.Drained {
		return nil, version
	}
	return rooms.Services(list, at == drain.Leaving), version
}

// contributed returns the aggregates that contain one of our prefixes.
func contributed(aggregates, own []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range aggregates {
		if slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Bits() > a.Bits() && a.Contains(p.Addr()) }) {
			out = append(out, a)
		}
	}
	return out
}

// configure changes the prefixes that are announced besides the blocks, and the
// aggregates that replace them.
func (o *originate) configure(prefixes, aggregates []netip.Prefix) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.extra, o.sums = prefixes, aggregates
	select {
	case o.edited <- struct{}{}:
	default:
	}
}

func (o *originate) configured() (prefixes, aggregates []netip.Prefix) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.extra, o.sums
}
