package bench

import (
	"context"
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

// compareLoads measures onlink and BIRD in turn.
func compareLoads(ctx context.Context, r *run, f form, full bool) (ours, bird measured, err error) {
	err = r.rounds(ctx,
		func(ctx context.Context) error { return ours.one(ctx, r, onlinkReceiver, f, full) },
		func(ctx context.Context) error { return bird.one(ctx, r, birdReceiver, f, full) })
	return ours, bird, err
}

func packedFigures(ctx context.Context, r *run) error {
	ours, bird, err := compareLoads(ctx, r, packedForm, true)
	if err != nil {
		return err
	}
	against := func(s samples) versus { return versus{name: birdReceiver.name, samples: s} }
	r.report("fib.load_packed_100k", "s", ours.load, against(bird.load))
	r.report("fib.load_packed_100k_cpu", "s", ours.cpu, against(bird.cpu))
	r.report("fib.withdraw_100k", "s", ours.withdraw, against(bird.withdraw))
	r.report("fib.single_p50", "ms", ours.single, against(bird.single))
	r.report("fib.single_worst", "ms", ours.worst, against(bird.worst))
	r.report("agent.rss_100k", "MB", ours.peak, against(bird.peak))
	r.report("agent.rss_100k_settled", "MB", ours.rest, against(bird.rest))
	return nil
}

func calicoFigure(ctx context.Context, r *run) error {
	ours, bird, err := compareLoads(ctx, r, calicoForm, false)
	if err != nil {
		return err
	}
	r.report("fib.load_calico_100k", "s", ours.load, versus{name: birdReceiver.name, samples: bird.load})
	r.report("fib.load_calico_100k_cpu", "s", ours.cpu, versus{name: birdReceiver.name, samples: bird.cpu})
	return nil
}
