package bench

import (
	"context"
	"strings"
	"time"
)

// settleTime is how long a receiver may tidy up between two phases.
const settleTime = time.Second

// measured is what one receiver showed in all rounds of a load.
type measured struct {
	load, cpu, peak, rest, withdraw, single, worst samples
}

// one runs one round with a fresh receiver.
func (m *measured) one(ctx context.Context, r *run, rx receiver, f form, full bool) error {
	l, err := newLoad(ctx, r, rx)
	if err != nil {
		return err
	}
	defer l.close()
	before, err := l.program.cpu()
	if err != nil {
		return err
	}
	took, err := l.announce(ctx, f, loadSize)
	if err != nil {
		return err
	}
	after, err := l.program.cpu()
	if err != nil {
		return err
	}
	_, peak, err := l.program.memory()
	if err != nil {
		return err
	}
	m.load, m.cpu, m.peak = append(m.load, took), append(m.cpu, after-before), append(m.peak, peak)
	if !full {
		return nil
	}
	if err := pause(ctx, settleTime); err != nil {
		return err
	}
	singles, err := l.single(ctx, f, loadSize, 40)
	if err != nil {
		return err
	}
	rest, _, err := l.program.memory()
	if err != nil {
		return err
	}
	m.rest = append(m.rest, rest)
	m.single, m.worst = append(m.single, singles.median()), append(m.worst, singles.percentile(100))
	if err := pause(ctx, settleTime); err != nil {
		return err
	}
	took, err = l.withdraw(ctx, loadSize)
	m.withdraw = append(m.withdraw, took)
	return err
}

// receivers are those that a load is measured with, onlink first.
var receivers = []receiver{onlinkReceiver, birdReceiver, frrReceiver}

// compareLoads measures all receivers in turn.
func compareLoads(ctx context.Context, r *run, f form, full bool) ([]measured, error) {
	out := make([]measured, len(receivers))
	each := make([]func(context.Context) error, len(receivers))
	for i, rx := range receivers {
		each[i] = func(ctx context.Context) error { return out[i].one(ctx, r, rx, f, full) }
	}
	return out, r.rounds(ctx, each...)
}

// reportLoads reports one quantity beside each peer's. Figures beside another peer
// than BIRD have its name at their end, and no goal.
func (r *run) reportLoads(name, unit string, all []measured, of func(measured) samples) {
	for i, peer := range receivers[1:] {
		full := name
		if i > 0 {
			full += "_" + strings.ToLower(peer.name)
		}
		r.report(full, unit, of(all[0]), versus{name: peer.name, samples: of(all[i+1])})
	}
}

func packedFigures(ctx context.Context, r *run) error {
	all, err := compareLoads(ctx, r, packedForm, true)
	if err != nil {
		return err
	}
	r.reportLoads("fib.load_packed_100k", "s", all, func(m measured) samples { return m.load })
	r.reportLoads("fib.load_packed_100k_cpu", "s", all, func(m measured) samples { return m.cpu })
	r.reportLoads("fib.withdraw_100k", "s", all, func(m measured) samples { return m.withdraw })
	r.reportLoads("fib.single_p50", "ms", all, func(m measured) samples { return m.single })
	r.reportLoads("fib.single_worst", "ms", all, func(m measured) samples { return m.worst })
	r.reportLoads("agent.rss_100k", "MB", all, func(m measured) samples { return m.peak })
	r.reportLoads("agent.rss_100k_settled", "MB", all, func(m measured) samples { return m.rest })
	return nil
}

func calicoFigure(ctx context.Context, r *run) error {
	all, err := compareLoads(ctx, r, calicoForm, false)
	if err != nil {
		return err
	}
	r.reportLoads("fib.load_calico_100k", "s", all, func(m measured) samples { return m.load })
	r.reportLoads("fib.load_calico_100k_cpu", "s", all, func(m measured) samples { return m.cpu })
	return nil
}
