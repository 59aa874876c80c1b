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

// Failure says why a desired route is not in the kernel.
type Failure struct {
	Prefix        netip.Prefix
	Err           error
	OwnerProtocol string // name of the protocol that holds the key, when Err is ErrForeign
	Dev           string // device the route goes out of; empty for multipath and blackhole
}

// failures are the entries that are not as desired: why, and when each is
// tried again.
type failures struct {
	log     *slog.Logger
	entries map[*entry]struct{}
	errs    []error // what the present Apply or Resync returns
	refused uint64  // attempts
}

// add records why e is not as desired.
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

// clear forgets that e failed.
func (f *failures) clear(e *entry) {
	if e.fail != nil {
		e.fail = nil
		delete(f.entries, e)
	}
}

// next returns when the next entry is due; the zero Time means that none is.
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

// report adds an error to what the present Apply or Resync returns.
func (f *failures) report(err error) { f.errs = append(f.errs, err) }

// ended returns what an Apply or Resync returns that ends early, with err.
func (f *failures) ended(err error) error { return errors.Join(append(f.errs, err)...) }

// joined returns what an Apply or Resync returns that did all it could: the
// errors joined, of many only the first few.
func (f *failures) joined() error {
	const most = 8
	if len(f.errs) <= most {
		return errors.Join(f.errs...)
	}
	return errors.Join(append(slices.Clone(f.errs[:most]), moreError(len(f.errs)-most))...)
}

// moreError stands for the errors that joined leaves out.
type moreError int

// Error says how many there are.
func (n moreError) Error() string { return "and " + strconv.Itoa(int(n)) + " more routes" }
