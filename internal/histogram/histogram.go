// Package histogram counts durations in fixed buckets. A [Histogram] is a plain
// value: the room that fills it needs no lock of its own kind and no library of
// metrics, and a copy is a snapshot.
package histogram

import (
	"sort"
	"time"
)

// bounds are the upper ends of the buckets, inclusive. They are from half a
// millisecond to a minute, because the latencies of an agent are from one route on an
// idle machine to a registry that does not answer.
var bounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond,
	5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

// Buckets is the number of buckets with an upper bound; what is above them counts in
// Count and Sum alone.
const Buckets = len(bounds)

// Histogram counts durations. The zero Histogram is empty. It is not safe for
// concurrent use.
type Histogram struct {
	Count  uint64
	Sum    time.Duration
	counts [Buckets]uint64 // of each bucket alone
}

// Observe counts n durations d; a negative one counts as 0.
func (h *Histogram) Observe(d time.Duration, n uint64) {
	d = max(d, 0)
	h.Count += n
	h.Sum += d * time.Duration(n) //nolint:gosec // 2^63 ns are 292 years
	if i := sort.Search(Buckets, func(i int) bool { return d <= bounds[i] }); i < Buckets {
		h.counts[i] += n
	}
}

// Cumulative returns how many durations were at most each bound, by the bound in
// seconds, as Prometheus shows a histogram.
func (h *Histogram) Cumulative() map[float64]uint64 {
	out := make(map[float64]uint64, Buckets)
	sum := uint64(0)
	for i, n := range h.counts {
		sum += n
		out[bounds[i].Seconds()] = sum
	}
	return out
}
