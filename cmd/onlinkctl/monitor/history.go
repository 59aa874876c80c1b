package monitor

import (
	"fmt"
	"time"
)

const (
	// keptEvents bounds the history: a session that flaps all night fills no memory.
	keptEvents = 500
	// joinWithin is how long changes of one count are one event, and joinAmong how many
	// of the newest events are looked at: churn would push all others out.
	joinWithin = 30 * time.Second
	joinAmong  = 12
)

// event is something that changed between two answers.
type event struct {
	seq  uint64 // names the event, for the cursor
	at   time.Time
	tone Tone
	text string
	// count is the name of a count that changed from one value to another; text is
	// made of them then. "": none.
	count    string
	from, to uint64
}

// history keeps the newest events, the newest last.
type history struct {
	seq  uint64
	list []event
}

// add keeps an event. A change of a count joins a recent one of the same count.
func (h *history) add(at time.Time, e event) {
	e.at = at
	if e.count != "" {
		for i := len(h.list) - 1; i >= max(0, len(h.list)-joinAmong); i-- {
			if old := &h.list[i]; old.count == e.count && at.Sub(old.at) <= joinWithin {
				e.from, e.seq = old.from, old.seq
				h.list = append(h.list[:i], h.list[i+1:]...)
				break
			}
		}
		e.text = fmt.Sprintf("%s: %d, was %d", e.count, e.to, e.from)
	}
	if e.seq == 0 {
		h.seq++
		e.seq = h.seq
	}
	h.list = append(h.list, e)
	if over := len(h.list) - keptEvents; over > 0 {
		h.list = append(h.list[:0], h.list[over:]...)
	}
}

// newest returns the i-th newest event.
func (h *history) newest(i int) *event { return &h.list[len(h.list)-1-i] }
