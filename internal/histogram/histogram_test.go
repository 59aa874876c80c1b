package histogram

import (
	"testing"
	"time"
)

// TestObserve: a duration counts in the first bucket that it fits into, and in all above.
func TestObserve(t *testing.T) {
	for _, tt := range []struct {
		name   string
		d      time.Duration
		bound  float64 // the first bucket that has it; 0: none
		before float64 // the one below it; 0: none
	}{
		{"a negative one", -time.Second, .0005, 0},
		{"the smallest", 0, .0005, 0},
		{"on a bound", 5 * time.Millisecond, .005, .0025},
		{"above a bound", 5*time.Millisecond + 1, .01, .005},
		{"the largest bound", time.Minute, 60, 30},
		{"above all", time.Hour, 0, 60},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var h Histogram
			h.Observe(tt.d, 3)
			got := h.Cumulative()
			if len(got) != Buckets {
				t.Fatalf("%d buckets, want %d", len(got), Buckets)
			}
			if tt.bound != 0 && got[tt.bound] != 3 {
				t.Errorf("%d up to %v s, want 3", got[tt.bound], tt.bound)
			}
			if tt.before != 0 && got[tt.before] != 0 {
				t.Errorf("%d up to %v s, want 0", got[tt.before], tt.before)
			}
			if h.Count != 3 || h.Sum != 3*max(tt.d, 0) {
				t.Errorf("count %d, sum %v", h.Count, h.Sum)
			}
		})
	}
}

// TestCopy: a copy does not change with the original.
func TestCopy(t *testing.T) {
	var h Histogram
	h.Observe(time.Millisecond, 1)
	c := h
	h.Observe(time.Millisecond, 1)
	if c.Count != 1 || c.Cumulative()[.001] != 1 || h.Cumulative()[.001] != 2 {
		t.Errorf("copy %+v, original %+v", c, h)
	}
}

// BenchmarkObserve is what one observation costs.
func BenchmarkObserve(b *testing.B) {
	var h Histogram
	for b.Loop() {
		h.Observe(7*time.Millisecond, 1)
	}
}
