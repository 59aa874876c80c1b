package fib

import (
	"errors"
	"net/netip"
	"time"
)

// entry is one prefix: what is desired, and what the kernel holds.
type entry struct {
	prefix netip.Prefix
	want   *hopset  // nil: no route
	have   *nexthop // nil: the kernel holds none of ours
	fail   *failure // nil: the last write worked
	seen   uint32   // reading of the kernel that showed it
	asked  uint32   // flush in which the kernel was asked about it
	queued bool     // in tracker.dirty
	stale  bool     // a previous run's; removed once the sweep is allowed
	doubt  bool     // the kernel may have dropped it: ask before writing
}

// failure is why an entry is not as desired.
type failure struct {
	err      error
	owner    string // protocol of the foreign route, if that is why
	attempts int
	retryAt  time.Time // zero: waits for an event
}

// clean reports whether the kernel is known to hold what e wants.
func (e *entry) clean() bool {
	if e.stale {
		return true
	}
	return !e.doubt && e.want.target() == e.have && (e.want == nil || e.want.err == nil)
}

// replaces reports whether e's route is to overwrite one of ours.
func (e *entry) replaces() bool { return e.want != nil && e.have != nil && !e.clean() }

// due reports whether it is time for another attempt.
func (f *failure) due(now time.Time) bool { return !f.retryAt.IsZero() && !now.Before(f.retryAt) }

// pending reports whether only the device of a pod's route is missing.
func (f *failure) pending() bool { return errors.Is(f.err, ErrPending) }
