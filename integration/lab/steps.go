package lab

import "errors"

// steps runs a list of calls and keeps their errors, so that a list of twenty
// netlink calls reads as a list.
type steps struct{ err error }

// do runs f unless an earlier step went wrong.
func (s *steps) do(f func() error) {
	if s.err == nil {
		s.err = f()
	}
}

// all runs f whatever happened before: for clean-up.
func (s *steps) all(f func() error) {
	s.err = errors.Join(s.err, f())
}
