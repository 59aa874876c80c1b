package fib

import (
	"errors"
	"net/netip"
	"time"
)

// entry is one prefix: the desired route, and the kernel's.
type entry struct {
	prefix netip.Prefix
	want   *hopset  // nil: no route
	have   *nexthop // nil: the kernel holds no route of ours
	fail   *failure // nil: the last write worked
	seen   uint32   // the reading of the kernel that showed it
	asked  uint32   // the flush in which it was queried alone
	queued bool     // in tracker.dirty
	stale  bool     // a previous run's; removed once the sweep is allowed
	doubt  bool     // the kernel may have dropped it: query it before writing
}

// failure is the reason that an entry is not as desired.
type failure struct {
	err      error
	owner    string // protocol of the foreign route that holds the key; "": none does
	attempts int
	retryAt  time.Time // zero: waits for an event
}

// clean reports whether the kernel is known to hold e's desired route.
func (e *entry) clean() bool {
	if e.stale {
		return true
	}
	return !e.doubt && e.want.target() == e.have && (e.want == nil || e.want.err == nil)
}

// replaces reports whether a write of e overwrites a route of ours.
func (e *entry) replaces() bool { return e.want != nil && e.have != nil && !e.clean() }

// due reports whether it is time for another attempt.
func (f *failure) due(now time.Time) bool { return !f.retryAt.IsZero() && !now.Before(f.retryAt) }

// pending reports whether only the device of a pod's route is missing.
func (f *failure) pending() bool { return errors.Is(f.err, ErrPending) }
