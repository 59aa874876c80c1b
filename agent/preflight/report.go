package preflight

import (
	"net/netip"
	"slices"

	"onlink/agent/config"
	"onlink/fib/underlay"
	"onlink/internal/strictyaml"
)

// report collects the mistakes of one configuration.
type report struct {
	*config.Config

	errs config.Errors
}

// fail adds a mistake of a field that has none yet. The text names the mistake
// and, after a semicolon, the remedy.
func (r *report) fail(field, format string, args ...any) {
	if len(r.errs) < strictyaml.MaxMistakes && !r.failed(field) {
		r.errs = append(r.errs, r.Places.Mistake(field, format, args...))
	}
}

func (r *report) failed(field string) bool {
	return slices.ContainsFunc(r.errs, func(e *config.Error) bool { return e.Field == field })
}

// sorted returns the mistakes in the order of the file.
func (r *report) sorted() config.Errors {
	r.errs.Sort()
	return r.errs
}

// own returns a test for addresses of this machine.
func own(addrs []underlay.Address) func(netip.Addr) bool {
	return func(a netip.Addr) bool {
		return slices.ContainsFunc(addrs, func(o underlay.Address) bool { return o.Addr == a })
	}
}
