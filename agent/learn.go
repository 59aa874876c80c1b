package agent

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"onlink/agent/config"
	"onlink/agent/dataplane"
	"onlink/agent/pods"
	"onlink/agent/rooms"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/fib"
	"onlink/fib/underlay"
	"onlink/internal/histogram"
	"onlink/internal/ours"
	"onlink/rib"
)

// learn is the learn flow: it receives best paths from the peers, resolves them
// by the kernel's own FIB, and writes kernel routes. Its Run is the only
// goroutine that touches rib, fib and tunnel, so none of them has a lock.
type learn struct {
	log     *slog.Logger
	speaker *bgp.Speaker
	watch   *underlay.Watcher
	table   *rib.Table
	reaches *rib.Liveness // resolves the table's next hops
	fib     *fib.Table
	plane   *dataplane.Plane
	pods    *pods.Routes
	peers   []config.Peer // their import rules bound the routes that may be installed
	sync    syncGate
	resync  time.Duration // between full comparisons with the kernel

	tidied    bool      // no routes of a former run are left in other tables
	resyncAt  time.Time // of the next full comparison
	linksNews func()    // called after a change of links, ours too; does not block

	// since is when the oldest change of best paths came that is not in the kernel
	// yet, the zero Time for none; converged is how long such changes took.
	since     time.Time
	converged histogram.Histogram

	moved chan struct{} // cap 1; sent to by the learn loop when the node's subnets changed, never closed

	asks  chan func() // sent to by do, unbuffered; Run is the only receiver
	board *state.Board
}

// Run follows every source of change until ctx ends, and leaves the routes in the
// kernel: a restart or an upgrade must not lose a packet.
func (l *learn) Run(ctx context.Context) error {
	repair := time.NewTicker(dataplane.RepairEvery)
	defer repair.Stop()
	wake := time.NewTimer(0)
	defer wake.Stop()
	l.trySync(ctx)
	for {
		wake.Reset(time.Until(l.nextWork()))
		full := false
		select {
		case <-ctx.Done():
			return nil
		case <-l.speaker.Changed():
			l.fromPeers()
		case <-l.watch.Changed():
			full = l.fromUnderlay(ctx)
		case <-l.pods.Wake():
			// install drains them, as before every write
		case <-repair.C:
			full = l.ensureTunnels(ctx)
			l.trySync(ctx)
			l.tidy(ctx)
		case <-wake.C:
			// a refused route may be due again: Apply retries it
			full = !time.Now().Before(l.resyncAt)
		case ask := <-l.asks:
			ask()
		}
		l.install(ctx, full)
		l.board.SetTurn(state.Turn{At: time.Now(), InSync: l.sync.done})
	}
}

// nextWork returns the time of the next work that no event starts: a retry of
// refused routes, or the full comparison.
func (l *learn) nextWork() time.Time {
	if at := l.fib.NextRetry(); !at.IsZero() && at.Before(l.resyncAt) {
		return at
	}
	return l.resyncAt
}

// fromPeers passes the changed paths of the peers to the decision.
func (l *learn) fromPeers() {
	if since := l.speaker.Drain(l.table.Update); l.since.IsZero() {
		l.since = since
	}
}

// fromUnderlay decides again every route that depends on a changed link, address
// or route. It reports whether the kernel may have dropped routes of ours with a
// link, which only a dump shows.
func (l *learn) fromUnderlay(ctx context.Context) (full bool) {
	ev := l.watch.Drain()
	if ev.Addrs || ev.All || ev.Relisted || len(ev.Prefixes) > 0 {
		select {
		case l.moved <- struct{}{}:
		default:
		}
	}
	l.table.SetPermitted(l.permit())
	var moved []netip.Addr
	for nh := range l.table.NextHops() {
		if ev.Affects(nh) {
			moved = append(moved, nh)
		}
	}
	l.table.NextHopsChanged(moved)
	l.fib.LinkChanged(ev.Links...)
	if len(ev.Links) > 0 || ev.Relisted {
		l.linksNews()
	}
	// A foreign route that was removed may have held the key of one of ours.
	if freed := len(ev.Prefixes) > 0 || ev.All; ev.Touched || freed && l.fib.Stats().Failing > 0 {
		soon := time.Now().Add(max(touchedWait, touchedShare*l.fib.Stats().LastResync))
		if soon.Before(l.resyncAt) {
			l.resyncAt = soon
		}
	}
	return l.ensureTunnels(ctx) || ev.Relisted
}

// permit returns the bounds of the installable routes, from the peers' rules and
// the node's present networks.
func (l *learn) permit() rib.Permit { return l.permitOf(l.peers, l.plane.Filter.Pools()) }

// permitOf returns the bounds for other rules and pools.
func (l *learn) permitOf(peers []config.Peer, pools []netip.Prefix) rib.Permit {
	p := rooms.Permit(peers, pools, l.watch.Subnets())
	for _, n := range l.watch.Networks() {
		p.Host = append(p.Host, n.Prefix)
	}
	return p
}

// fromPods passes the pods that came and went to the decision.
func (l *learn) fromPods() {
	for addr, dev := range l.pods.Drain() {
		if dev == "" {
			l.table.DeletePod(addr)
		} else {
			l.table.SetPod(addr, dev)
		}
	}
}

// install writes the decided routes into the kernel: the differences alone, or
// everything after a full dump. A route that the dump shows and that is not
// decided is swept by the Apply after it, not earlier: by then the decision has
// the pods that cni queued before it wired them.
func (l *learn) install(ctx context.Context, full bool) {
	if full {
		l.resyncAt = time.Now().Add(jitter(l.resync))
		if _, err := l.fib.Resync(ctx); err != nil && ctx.Err() == nil {
			l.log.Warn("failed to apply routes", "err", err)
		}
	}
	l.fromPods()
	l.plane.Admit(ctx, l.table)
	before := l.fib.Stats().Written()
	l.table.DrainTo(func(c rib.Change) {
		if c.Deleted {
			l.fib.Delete(c.Route.Prefix)
		} else {
			l.fib.Set(c.Route)
		}
	})
	if err := l.fib.Apply(ctx); err != nil && ctx.Err() == nil {
		l.log.Warn("failed to install routes", "err", err)
	}
	if !l.since.IsZero() { // one time for all routes of a turn: none of them pays for the measurement
		l.converged.Observe(time.Since(l.since), l.fib.Stats().Written()-before)
		l.since = time.Time{}
	}
	l.plane.Dismiss(ctx, l.sync.done)
}

// ensureTunnels brings the tunnel devices to their desired state and reports
// whether one was made anew: the kernel dropped the routes of the old one.
func (l *learn) ensureTunnels(ctx context.Context) (full bool) {
	renewed := l.plane.Ensure(ctx)
	l.fib.Avoid(l.plane.Foreign())
	l.fib.LinkChanged(renewed...)
	return len(renewed) > 0
}

// trySync lets fib sweep the routes of a previous run once every established peer
// has sent End-of-RIB (RFC 4724 section 4.1), or the deadline has passed.
func (l *learn) trySync(ctx context.Context) {
	if !l.sync.pass(l.speaker.Synced, l.speaker.Peers) {
		return
	}
	l.fromPeers()
	l.fib.AllowSweep()
	l.plane.InSync()
	l.install(ctx, true)
	l.log.Info("in sync, routes of a previous run swept", "after", l.sync.took)
	l.tidy(ctx)
}

// tidy removes the routes that a previous run with another fib.table left in that
// table, once the routes of this run are in theirs. It is repeated until it
// succeeds.
func (l *learn) tidy(ctx context.Context) {
	if !l.sync.done || l.tidied {
		return
	}
	removed, err := l.fib.SweepElsewhere(ctx, ours.GatewayTable)
	if err != nil {
		if ctx.Err() == nil {
			l.log.Warn("failed to remove routes of a previous run from another table, retrying", "err", err)
		}
		return
	}
	l.tidied = true
	if removed > 0 {
		l.log.Info("routes of a previous run removed from other tables", "routes", removed)
	}
}

// do runs ask in the learn loop and returns when its changes are in the kernel.
// An error is ctx's: ask was not run then.
func (l *learn) do(ctx context.Context, ask func()) error {
	done := make(chan struct{})
	f := func() {
		defer close(done)
		ask()
		l.install(ctx, false)
	}
	select {
	case l.asks <- f:
	case <-ctx.Done():
		return ctx.Err()
	}
	<-done
	return nil
}

// setOwn installs the blackhole routes of this node's blocks and aggregates.
func (l *learn) setOwn(ctx context.Context, blocks, aggregates []netip.Prefix) error {
	return l.do(ctx, func() {
		l.table.SetOwn(blocks)
		l.table.SetAggregates(aggregates)
	})
}

// failures returns, for every decided route that is not in the kernel, the
// reason.
func (l *learn) failures() map[netip.Prefix]string {
	out := map[netip.Prefix]string{}
	for _, f := range l.fib.Failures() {
		out[f.Prefix] = f.Err.Error()
		if f.OwnerProtocol != "" {
			out[f.Prefix] = fmt.Sprintf("%v: proto %s; remove that route or set fib.metric", f.Err, f.OwnerProtocol)
		}
	}
	return out
}

const (
	// After a change of our routes by another program the kernel is read again this
	// late, so that a script that edits many costs one reading, and readings take
	// at most one part in touchedShare of a core.
	touchedWait  = 500 * time.Millisecond
	touchedShare = 20
)

// jitter returns d plus or minus a tenth, so that the periodic work of many nodes
// spreads out.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1) //nolint:gosec // spread, not secrecy
}

// SetDead marks next hops dead and alive again, as BFD reports them, and returns
// when the routes that follow are in the kernel.
func (l *learn) SetDead(ctx context.Context, died, alive []netip.Addr) error {
	return l.do(ctx, func() {
		l.reaches.Set(died, alive)
		l.table.NextHopsChanged(slices.Concat(died, alive))
	})
}
