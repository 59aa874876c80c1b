package bfd

import (
	"container/heap"
	"time"
)

// agenda orders sessions by their due times.
type agenda struct{ h entries }

// put sets the due time of e; the zero time removes it from the agenda.
func (a *agenda) put(e *entry, at time.Time) {
	switch {
	case at.IsZero():
		a.remove(e)
	case e.index < 0:
		e.at = at
		heap.Push(&a.h, e)
	default:
		e.at = at
		heap.Fix(&a.h, e.index)
	}
}

func (a *agenda) remove(e *entry) {
	if e.index >= 0 {
		heap.Remove(&a.h, e.index)
	}
}

// first returns the session that is due first, nil when none is.
func (a *agenda) first() *entry {
	if len(a.h) == 0 {
		return nil
	}
	return a.h[0]
}

// wait returns the time until a session is due, at most limit.
func (a *agenda) wait(now time.Time, limit time.Duration) time.Duration {
	if e := a.first(); e != nil {
		return min(limit, e.at.Sub(now))
	}
	return limit
}

// entries implements heap.Interface.
type entries []*entry

func (h entries) Len() int           { return len(h) }
func (h entries) Less(i, j int) bool { return h[i].at.Before(h[j].at) }

func (h entries) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *entries) Push(x any) {
	e := x.(*entry) //nolint:forcetypeassert // only put calls it
	e.index = len(*h)
	*h = append(*h, e)
}

// Pop implements heap.Interface.
func (h *entries) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.index = -1
	return e
}
