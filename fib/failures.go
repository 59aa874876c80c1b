package fib

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// Failed routes are tried again after retryFirst, then twice as long each
// time up to retryMost; a Resync tries them all.
const (
	retryFirst = time.Second
	retryMost  = time.Minute
)

// Failure is the reason that a desired route is not in the kernel.
type Failure struct {
	Prefix        netip.Prefix
	Err           error
	OwnerProtocol string // name of the protocol that holds the key, when Err is ErrForeign
	Dev           string // device the route goes out of; empty for multipath and blackhole
}

// failures are the entries that are not as desired, with the reason and the time
// of the next attempt.
type failures struct {
	log     *slog.Logger
	entries map[*entry]struct{}
	errs    []error // of the present Apply or Resync
	refused uint64  // attempts
}

// add records the reason that e is not as desired.
func (f *failures) add(e *entry, err error) { f.addOwned(e, err, "") }

// addOwned is add for a key that the named protocol holds.
func (f *failures) addOwned(e *entry, err error, owner string) {
	why := e.fail
	if why == nil {
		why = &failure{}
		e.fail = why
		f.entries[e] = struct{}{}
	}
	why.err, why.owner = err, owner
	why.attempts++
	if why.pending() {
		return
	}
	why.retryAt = time.Now().Add(min(retryFirst<<min(why.attempts-1, 10), retryMost))
	f.refused++
	f.report(err)
	if why.attempts == 1 {
		f.log.Warn("route is not installed", "prefix", e.prefix, "err", err)
	}
}

// clear removes e's failure.
func (f *failures) clear(e *entry) {
	if e.fail != nil {
		e.fail = nil
		delete(f.entries, e)
	}
}

// next returns the time of the next due entry; the zero Time means that none is
// due.
func (f *failures) next() time.Time {
	var next time.Time
	for e := range f.entries {
		if at := e.fail.retryAt; !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// list returns the failures but for pending ones, by prefix.
func (f *failures) list() []Failure {
	var list []Failure
	for e := range f.entries {
		if e.fail.pending() {
			continue
		}
		one := Failure{Prefix: e.prefix, Err: e.fail.err, OwnerProtocol: e.fail.owner}
		if nh := e.want.target(); nh != nil && nh.dev != nil {
			one.Dev = nh.dev.name
		}
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b Failure) int { return a.Prefix.Compare(b.Prefix) })
	return list
}

// report adds an error to those of the present Apply or Resync.
func (f *failures) report(err error) { f.errs = append(f.errs, err) }

// ended returns the error of an Apply or Resync that ends early, with err.
func (f *failures) ended(err error) error { return errors.Join(append(f.errs, err)...) }

// joined returns the error of an Apply or Resync that ran to its end: the errors
// joined, of many only the first few.
func (f *failures) joined() error {
	const most = 8
	if len(f.errs) <= most {
		return errors.Join(f.errs...)
	}
	return errors.Join(append(slices.Clone(f.errs[:most]), moreError(len(f.errs)-most))...)
}

// moreError stands for the errors that joined leaves out.
type moreError int

// Error returns the number of errors left out.
func (n moreError) Error() string { return "and " + strconv.Itoa(int(n)) + " more routes" }
