package monitor

import "time"

// meterSpan is the time over which a meter averages.
const meterSpan = 10 * time.Second

// meter turns values of a count into changes a second. A status comes only when it
// differs, so that the rate falls to zero by the time alone.
type meter struct {
	known   bool
	last    uint32
	changes []change
}

// change is a difference between two values.
type change struct {
	at time.Time
	by uint32
}

// note takes the count at a time.
func (m *meter) note(at time.Time, n uint32) {
	by := max(n, m.last) - min(n, m.last)
	if m.known && by > 0 {
		m.changes = append(m.changes, change{at, by})
	}
	m.known, m.last = true, n
	old := 0
	for old < len(m.changes) && at.Sub(m.changes[old].at) > meterSpan {
		old++
	}
	m.changes = m.changes[old:]
}

// rate returns the changes a second.
func (m *meter) rate(now time.Time) float64 {
	sum := uint64(0)
	for _, c := range m.changes {
		if now.Sub(c.at) <= meterSpan {
			sum += uint64(c.by)
		}
	}
	return float64(sum) / meterSpan.Seconds()
}
