package bench

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"onlink/integration/bench/speaker"
)

// form is how the routes of a load are announced.
type form struct {
	hops int // different next hops
	per  int // prefixes per UPDATE at most
}

var (
	packedForm = form{hops: 1, per: 4096} // full UPDATEs with one next hop
	calicoForm = form{hops: 1000, per: 4} // a block or four per node
	loadSize   = 100_000                  // routes of the load figures
	probeCount = 32                       // prefixes looked up while waiting
)

// encode returns the UPDATEs that announce n blocks.
func (f form) encode(n int) []byte {
	var b []byte
	var group []netip.Prefix
	for i, u := 0, 0; i < n; u++ {
		group = group[:0]
		for ; len(group) < f.per && i < n; i++ {
			group = append(group, block(i))
		}
		b = speaker.AppendUpdate(b, f.hop(u), group, f.per)
	}
	return b
}

// hop returns the next hop of the u-th UPDATE.
func (f form) hop(u int) netip.Addr { return gateway(u % f.hops) }

func blocks(from, n int) []netip.Prefix {
	out := make([]netip.Prefix, n)
	for i := range out {
		out[i] = block(from + i)
	}
	return out
}

// probes returns prefixes all over the first n, and the last announced.
func probes(n int) []netip.Prefix {
	var out []netip.Prefix
	for k := range probeCount {
		out = append(out, block(k*7919*31%n))
	}
	return append(out, block(0), block(n/2), block(n-1))
}

// load is one receiver with a session to the feeder.
type load struct {
	pair    *pair
	program *program
	session *speaker.Session
	base    int // prefixes in the kernel without ours

	stop context.CancelFunc
}

// newLoad starts the receiver and opens the session; nothing is announced.
func newLoad(ctx context.Context, r *run, rx receiver) (*load, error) {
	p, err := newPair()
	if err != nil {
		return nil, err
	}
	prog, err := rx.start(r, p.near)
	if err != nil {
		p.close()
		return nil, err
	}
	l := &load{pair: p, program: prog, stop: func() {}}
	if err := l.open(ctx); err != nil {
		l.close()
		return nil, fmt.Errorf("%s: %w", rx.name, err)
	}
	return l, nil
}

func (l *load) open(ctx context.Context) error {
	err := l.program.until(ctx, "session comes up", 50*time.Millisecond, 30*time.Second, func() (bool, error) {
		return l.pair.far.do(func() (err error) {
			l.session, err = speaker.Open(ctx, farAddr, nearAddr, asn)
			return err
		}) == nil, nil
	})
	if err != nil {
		return err
	}
	ctx, l.stop = context.WithCancel(ctx)
	go l.session.Maintain(ctx)
	l.base, err = l.program.prefixes()
	return err
}

func (l *load) close() {
	l.stop()
	if l.session != nil {
		_ = l.session.Close()
	}
	l.program.stop()
	l.pair.close()
}

// announce sends n blocks and returns the time from the first byte to the
// last route in the kernel. The session is up, as if that had just happened.
func (l *load) announce(ctx context.Context, f form, n int) (float64, error) {
	msgs := speaker.AppendEndOfRIB(f.encode(n))
	begin := time.Now()
	if err := l.session.Write(msgs); err != nil {
		return 0, fmt.Errorf("announce: %w", err)
	}
	err := l.settle(ctx, l.base+n, true, probes(n))
	return time.Since(begin).Seconds(), err
}

// withdraw takes n blocks back.
func (l *load) withdraw(ctx context.Context, n int) (float64, error) {
	msgs := speaker.AppendWithdraw(nil, blocks(0, n))
	begin := time.Now()
	if err := l.session.Write(msgs); err != nil {
		return 0, fmt.Errorf("withdraw: %w", err)
	}
	err := l.settle(ctx, l.base, false, probes(n))
	return time.Since(begin).Seconds(), err
}

// single announces count more blocks after the first n, one at a time, and
// returns the milliseconds until each was in the kernel. They are withdrawn
// at the end.
func (l *load) single(ctx context.Context, f form, n, count int) (samples, error) {
	var out samples
	for i := range count {
		p := block(n + i)
		msg := speaker.AppendUpdate(nil, f.hop(i), []netip.Prefix{p}, 1)
		begin := time.Now()
		if err := l.session.Write(msg); err != nil {
			return nil, fmt.Errorf("announce one: %w", err)
		}
		for !l.pair.near.has(p) {
			if time.Since(begin) > 20*time.Second {
				return nil, fmt.Errorf("announce one: %s is not in the kernel after 20 s", p)
			}
		}
		out = append(out, time.Since(begin).Seconds()*1000)
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
	if err := l.session.Write(speaker.AppendWithdraw(nil, blocks(n, count))); err != nil {
		return nil, fmt.Errorf("withdraw: %w", err)
	}
	return out, l.settle(ctx, l.base+n, false, blocks(n, count))
}
