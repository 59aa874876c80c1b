package fib

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

// Failed routes are tried again after retryFirst, then twice as long each
// time up to retryMost; a Resync tries them all.
const (
	retryFirst = time.Second
	retryMost  = time.Minute
)

// failure is why an entry is not as desired.
type failure struct {
	err      error
	owner    string // protocol of the foreign route, if that is why
	attempts int
	retryAt  time.Time // zero: waits for an event
}

// outcome takes note of one answered request.
func (t *Table) outcome(r *request) {
	if r.verb >= addNexthop {
		t.objectOutcome(r)
		return
	}
	e, errno := r.entry, errnoOf(r.err)
	absent := errno == unix.ESRCH || errno == unix.ENOENT
	switch {
	case e == nil: // a stray; what could not be removed shows up again
	case r.verb == deleteRoute && (errno == 0 || absent):
		t.setHave(e, nil)
		t.stats.Deleted++
		t.clearFailure(e)
		t.settle(e)
	case errno == 0:
		if r.verb == addRoute {
			t.stats.Added++
		} else {
			t.stats.Changed++
		}
		t.setHave(e, r.nh)
		t.clearFailure(e)
	case r.verb == addRoute && errno == unix.EEXIST:
		t.taken = append(t.taken, e)
	case r.verb == replaceRoute && absent:
		e.doubt = true // gone by somebody's hand: ask, then add it
		t.enqueue(e)
	case r.id != 0 && errno == unix.EINVAL && t.first:
		t.suspect = true // perhaps the kernel dropped the object: look, once
		t.enqueue(e)
	case r.nh != nil && r.nh.kind == linkHop && (errno == unix.ENODEV || errno == unix.ENETDOWN):
		r.nh.forgetIndex()
		t.failed(e, ErrPending)
	case r.verb == deleteRoute:
		t.failed(e, fmt.Errorf("remove %v: %w", e.prefix, r.err))
	default:
		r.nh.forgetIndex()
		t.failed(e, fmt.Errorf("install %v: %w", e.prefix, r.err))
	}
}

// failed records why e is not as desired.
func (t *Table) failed(e *entry, err error) {
	t.failedOwner(e, err, "")
}

func (t *Table) failedOwner(e *entry, err error, owner string) {
	f := e.fail
	if f == nil {
		f = &failure{}
		e.fail = f
		t.failing[e] = struct{}{}
	}
	f.err, f.owner = err, owner
	f.attempts++
	if errors.Is(err, ErrPending) {
		return
	}
	f.retryAt = time.Now().Add(min(retryFirst<<min(f.attempts-1, 10), retryMost))
	t.stats.Errors++
	t.errs = append(t.errs, err)
	if f.attempts == 1 {
		t.log.Warn("route is not installed", "prefix", e.prefix, "error", err)
	}
}

func (t *Table) clearFailure(e *entry) {
	if e.fail != nil {
		e.fail = nil
		delete(t.failing, e)
	}
}

// retryDue queues the failed entries whose time has come.
func (t *Table) retryDue(now time.Time) {
	for e := range t.failing {
		if at := e.fail.retryAt; !at.IsZero() && !now.Before(at) {
			t.enqueue(e)
		}
	}
}

// askDoubtful asks the kernel about the routes it may have dropped.
func (t *Table) askDoubtful(work []*entry) error {
	for _, e := range work {
		if !e.doubt {
			continue
		}
		r, ok, err := t.ask(e)
		if err != nil {
			return err
		}
		e.asked = t.flushes
		if !ok || r.protocol != ours.Protocol {
			t.setHave(e, nil) // if it is there after all, the add is refused
			continue
		}
		t.setHave(e, t.identify(&r))
		if e.clean() {
			t.clearFailure(e)
		}
	}
	return nil
}

// ask returns the route that holds e's key. ok is false if the answer to a
// look-up by address does not tell, because it shows another route.
func (t *Table) ask(e *entry) (r wireRoute, ok bool, err error) {
	err = t.kernel.lookup(e.prefix, &r)
	if errors.As(err, new(*rtnl.Error)) || errors.Is(err, unix.ENETUNREACH) {
		return r, false, nil
	}
	return r, err == nil && r.key == t.key(e.prefix) && r.table == t.cfg.Table, err
}

// askOwners finds out who holds the keys that were refused with EEXIST. Ours
// are queued to be replaced, others are reported.
func (t *Table) askOwners() error {
	if len(t.taken) == 0 {
		return nil
	}
	taken := t.taken
	t.taken = nil
	const dumpFrom = 64 // so many look-ups cost as much as a dump
	var open map[routeKey]*entry
	for _, e := range taken {
		if len(taken) < dumpFrom {
			r, ok, err := t.ask(e)
			if err != nil {
				return err
			}
			if ok {
				t.owned(e, &r)
				continue
			}
		}
		if open == nil {
			open = make(map[routeKey]*entry)
		}
		open[t.key(e.prefix)] = e
	}
	if open == nil {
		return nil
	}
	err := t.kernel.routes(0, func(r *wireRoute) {
		if e := open[r.key]; e != nil {
			delete(open, r.key)
			t.owned(e, r)
		}
	})
	if err != nil && !errors.Is(err, errInterrupted) {
		return err
	}
	for _, e := range open {
		t.enqueue(e) // it left in the meantime
	}
	return nil
}

// owned draws the conclusion from r holding e's key.
func (t *Table) owned(e *entry, r *wireRoute) {
	e.asked = t.flushes
	if r.protocol == ours.Protocol {
		t.setHave(e, t.identify(r))
		if e.clean() {
			t.clearFailure(e)
		} else {
			t.enqueue(e)
		}
		return
	}
	owner := ProtocolName(r.protocol)
	t.failedOwner(e, fmt.Errorf("install %v: protocol %s: %w", e.prefix, owner, ErrForeign), owner)
}

// protocolNames are the kernel's and iproute2's names
// (/etc/iproute2/rt_protos).
var protocolNames = map[uint8]string{
	unix.RTPROT_UNSPEC: "unspec", unix.RTPROT_REDIRECT: "redirect", unix.RTPROT_KERNEL: "kernel",
	unix.RTPROT_BOOT: "boot", unix.RTPROT_STATIC: "static", unix.RTPROT_GATED: "gated",
	unix.RTPROT_RA: "ra", unix.RTPROT_MRT: "mrt", unix.RTPROT_ZEBRA: "zebra", unix.RTPROT_BIRD: "bird",
	unix.RTPROT_DNROUTED: "dnrouted", unix.RTPROT_XORP: "xorp", unix.RTPROT_NTK: "ntk",
	unix.RTPROT_DHCP: "dhcp", unix.RTPROT_KEEPALIVED: "keepalived", unix.RTPROT_BABEL: "babel",
	unix.RTPROT_BGP: "bgp", unix.RTPROT_ISIS: "isis", unix.RTPROT_OSPF: "ospf", unix.RTPROT_RIP: "rip",
	unix.RTPROT_EIGRP: "eigrp", ours.Protocol: "onlink",
}

// ProtocolName returns iproute2's name of a route protocol, or its number.
func ProtocolName(protocol uint8) string {
	if name, ok := protocolNames[protocol]; ok {
		return name
	}
	return strconv.Itoa(int(protocol))
}

// moreError stands for the errors that joinSome leaves out.
type moreError int

// Error says how many there are.
func (n moreError) Error() string { return "and " + strconv.Itoa(int(n)) + " more routes" }
