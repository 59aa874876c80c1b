package bench

import (
	"context"
	"errors"
	"time"

	"onlink/integration/conf"
)

const (
	idleRoutes = 1000
	idlePods   = 100
	idleTime   = 20 * time.Second
)

// idleFigures: an agent with 1,000 routes and 100 pods to which nothing
// happens.
func idleFigures(ctx context.Context, r *run) (err error) {
	rx := onlinkReceiver
	rx.start = func(r *run, s *space) (*program, error) {
		return r.startAgent(s, agentConfig{pools: podPool(), peers: []*conf.Peer{feederPeer()}})
	}
	l, err := newLoad(ctx, r, rx)
	if err != nil {
		return err
	}
	defer l.close()
	if err := r.serving(ctx, l.program, l.pair.near); err != nil {
		return err
	}
	// The agent claims its blocks, each a route of its own, in the meantime.
	if err := pause(ctx, 2*settleTime); err != nil {
		return err
	}
	if l.base, err = l.program.prefixes(); err != nil {
		return err
	}
	if _, err := l.announce(ctx, calicoForm, idleRoutes); err != nil {
		return err
	}
	pods, err := newPodSpaces(r.dir, idlePods)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pods.close()) }()
	c, err := r.onlinkChain()
	if err != nil {
		return err
	}
	if _, err := c.call(ctx, l.pair.near, pods.paths, 4, true); err != nil {
		return err
	}
	if err := pause(ctx, 5*settleTime); err != nil {
		return err
	}
	cpu, _, err := l.usage()
	if err != nil {
		return err
	}
	if err := pause(ctx, idleTime); err != nil {
		return err
	}
	cpuEnd, rss, err := l.usage()
	if err != nil {
		return err
	}
	r.report("agent.idle_rss", "MB", samples{rss}, versus{why: "no peer"})
	r.report("agent.idle_cpu", "% of a core", samples{100 * (cpuEnd - cpu) / idleTime.Seconds()}, versus{why: "no peer"})
	return nil
}
