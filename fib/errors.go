package fib

import "errors"

// Errors a caller may test for with errors.Is.
var (
	// ErrForeign is the reason of a [Failure]: a route of another protocol holds
	// the key (prefix, table, metric), and it is not ours to change.
	ErrForeign = errors.New("the key is held by a route of another protocol")
	// ErrNoDevice is the reason of a [Failure]: a hop's device does not exist.
	ErrNoDevice = errors.New("device does not exist")
	// ErrAvoid is the reason of a [Failure]: a hop's device is not onlink's
	// ([Table.Avoid]).
	ErrAvoid = errors.New("device is not onlink's")
	// ErrPending is [Table.Installed]'s error for a pod's route whose device is
	// absent or down. It is no failure: the CNI plugin is at work.
	ErrPending = errors.New("pending: device not there yet")
	// ErrQueued is [Table.Installed]'s error before the next Apply.
	ErrQueued = errors.New("not written yet")
	// ErrBadRoute is the reason of a [Failure]: the kernel cannot hold such a
	// route, such as an IPv6 prefix behind an IPv4 gateway.
	ErrBadRoute = errors.New("route cannot be expressed")
	// ErrUnsettled is returned by Apply and Resync when the kernel kept changing,
	// or the socket kept failing, while they worked; unfinished changes stay
	// queued.
	ErrUnsettled = errors.New("kernel state did not settle")
	// ErrClosed is returned by every call that needs the kernel before Open
	// and after Close.
	ErrClosed = errors.New("table is not open")
)

// errInterrupted is a dump that the kernel marked inconsistent (NLM_F_DUMP_INTR):
// the routes in it exist, others may exist too.
var errInterrupted = errors.New("dump interrupted by a change")
