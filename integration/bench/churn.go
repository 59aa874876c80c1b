package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/integration/bench/speaker"
	"onlink/internal/ours"
)

// The churn: every tick so many changes among so many prefixes.
const (
	churnTable   = 10_000
	churnTick    = 10 * time.Millisecond
	churnPerTick = 10 // 1,000 changes a second
	churnTime    = time.Minute
)

// churn is the table the feeder announces while it changes it.
type churn struct {
	hops []int // of each block, as a number of gateway; -1: withdrawn
	next *rand.Rand
}

// change changes one block at random: half of the changes withdraw or bring
// back, half move it to another next hop.
func (c *churn) change(b []byte) []byte {
	i := c.next.IntN(len(c.hops))
	if c.hops[i] >= 0 && c.next.IntN(2) == 0 {
		c.hops[i] = -1
		return speaker.AppendWithdraw(b, []netip.Prefix{block(i)})
	}
	c.hops[i] = c.next.IntN(calicoForm.hops)
	return speaker.AppendUpdate(b, gateway(c.hops[i]), []netip.Prefix{block(i)}, 1)
}

// drift counts the blocks that the kernel holds otherwise than announced.
func (c *churn) drift(s *space) (int, error) {
	routes, err := s.link.RouteListFiltered(unix.AF_INET, &netlink.Route{Protocol: ours.Protocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return 0, fmt.Errorf("dump routes: %w", err)
	}
	have := make(map[netip.Prefix]netip.Addr, len(routes))
	for _, r := range routes {
		a, _ := netip.AddrFromSlice(r.Dst.IP.To4())
		bits, _ := r.Dst.Mask.Size()
		gw, _ := netip.AddrFromSlice(r.Gw.To4())
		have[netip.PrefixFrom(a, bits)] = gw
	}
	wrong := 0
	for i, hop := range c.hops {
		gw, ok := have[block(i)]
		if ok != (hop >= 0) || ok && gw != gateway(hop) {
			wrong++
		}
		delete(have, block(i))
	}
	return wrong + len(have), nil
}

// churnFigures: 1,000 changes a second for a minute.
func churnFigures(ctx context.Context, r *run) error {
	l, err := newLoad(ctx, r, onlinkReceiver)
	if err != nil {
		return err
	}
	defer l.close()
	if _, err := l.announce(ctx, calicoForm, churnTable); err != nil {
		return err
	}
	if err := pause(ctx, 2*settleTime); err != nil {
		return err
	}
	c := &churn{hops: make([]int, churnTable), next: rand.New(rand.NewPCG(1, 2))} //nolint:gosec // the same changes in every run
	for i := range c.hops {
		c.hops[i] = i / calicoForm.per % calicoForm.hops
	}
	if n, err := c.drift(l.pair.near); err != nil || n != 0 {
		return errors.Join(err, fmt.Errorf("%d routes wrong before the churn", n))
	}
	cpu, before, err := l.usage()
	if err != nil {
		return err
	}
	rate, err := c.run(ctx, l.session)
	if err != nil {
		return err
	}
	wrong, err := l.driftAtRest(ctx, c)
	if err != nil {
		return err
	}
	cpuEnd, after, err := l.usage()
	if err != nil {
		return err
	}
	none := versus{why: "no peer: an invariant, not a race"}
	r.report("fib.churn_60s", "routes wrong", samples{float64(wrong)}, none)
	r.report("fib.churn_60s_rate", "changes/s", samples{rate}, none)
	r.report("fib.churn_60s_cpu", "% of a core", samples{100 * (cpuEnd - cpu) / churnTime.Seconds()}, none)
	r.report("fib.churn_60s_rss_before", "MB", samples{before}, none)
	r.report("fib.churn_60s_rss_after", "MB", samples{after}, none)
	return nil
}

// usage returns processor seconds and resident MB of the receiver.
func (l *load) usage() (cpu, rss float64, err error) {
	if cpu, err = l.program.cpu(); err != nil {
		return 0, 0, err
	}
	rss, _, err = l.program.memory()
	return cpu, rss, err
}

// run sends the changes at their rate and returns the rate reached.
func (c *churn) run(ctx context.Context, s *speaker.Session) (perSecond float64, err error) {
	tick := time.NewTicker(churnTick)
	defer tick.Stop()
	sent, begin := 0, time.Now()
	for now := begin; now.Sub(begin) < churnTime; {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case now = <-tick.C:
		}
		// A late tick is made up for.
		var msgs []byte
		due := int(now.Sub(begin) / churnTick * churnPerTick)
		for ; sent < due; sent++ {
			msgs = c.change(msgs)
		}
		if err := s.Write(msgs); err != nil {
			return 0, fmt.Errorf("send changes: %w", err)
		}
	}
	return float64(sent) / time.Since(begin).Seconds(), nil
}

// driftAtRest returns what is wrong once the last changes had ten seconds to
// arrive.
func (l *load) driftAtRest(ctx context.Context, c *churn) (wrong int, err error) {
	for end := time.Now().Add(10 * time.Second); ; {
		if wrong, err = c.drift(l.pair.near); err != nil || wrong == 0 || time.Now().After(end) {
			return wrong, err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return 0, err
		}
	}
}
