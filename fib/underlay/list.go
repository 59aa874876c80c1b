package underlay

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"onlink/internal/rtnl"
)

// listAll lists links and addresses, then routes. Notifications that arrived
// since the subscription was opened or discarded may be older than the list;
// reading them again does no harm, because none is missing and the last one of
// each object holds its present state.
func (w *Watcher) listAll() error {
	before := w.state
	w.reset()
	err := errors.Join(w.dump.barrier(), w.listLinks(), w.listAddrs())
	if err != nil && !errors.Is(err, errInterrupted) {
		w.state = before
		w.stale()
		return err
	}
	var names []string
	for i, l := range before.links {
		if w.state.links[i] != l {
			names = append(names, l.name)
		}
	}
	for i, l := range w.state.links {
		if before.links[i] != l {
			names = append(names, l.name)
		}
	}
	w.untold.merge(Events{Links: names, Relisted: true})
	w.partial = err != nil
	err = errors.Join(err, w.listRoutes())
	if w.partial {
		w.stale()
	}
	return err
}

func (w *Watcher) listLinks() error {
	all := question(func(b *rtnl.Builder) { b.Link(rtnl.Link{}) })
	return w.dump.dump(unix.RTM_GETLINK, all, func() { clear(w.state.links) }, func(m rtnl.Message) {
		if l, ok := parseLink(m.Body); ok {
			w.state.links[l.index] = l
		}
	})
}

func (w *Watcher) listAddrs() error {
	all := question(func(b *rtnl.Builder) { b.Address(rtnl.Address{}) })
	return w.dump.dump(unix.RTM_GETADDR, all, func() { clear(w.state.addrs) }, func(m rtnl.Message) {
		if a, s, ok := parseAddress(m.Body); ok {
			// The kernel lists the oldest IPv4 address of a device first, and
			// the newest IPv6 address.
			if s.order = len(w.state.addrs); !a.local.Is4() {
				s.order = -s.order
			}
			w.state.addrs[a] = s
		}
	})
}

// listRoutes lists rules, nexthop objects and routes, and publishes. When a dump
// stays interrupted the copy is published and listed again soon.
func (w *Watcher) listRoutes() error {
	start := time.Now()
	w.dirty = false
	err := w.dump.barrier()
	if err == nil {
		err = errors.Join(w.listRules(), w.listObjects(), w.listTables())
	}
	w.listed = time.Now()
	w.took = w.listed.Sub(start)
	w.resort = w.listed.Add(resortAfter + rand.N(resortSpread))
	if err != nil {
		w.stale()
	}
	if err == nil || errors.Is(err, errInterrupted) {
		w.publish()
	}
	return err
}

// listRules lists the policy rules; a kernel without policy routing has none.
func (w *Watcher) listRules() error {
	all := question(func(b *rtnl.Builder) { b.Rule(rtnl.Rule{}) })
	err := w.dump.dump(unix.RTM_GETRULE, all, func() { w.state.rules = nil }, func(m rtnl.Message) {
		if r, ok := parseRule(m.Body); ok && (r.family == unix.AF_INET || r.family == unix.AF_INET6) {
			w.state.rules = append(w.state.rules, r)
		}
	})
	return unlessUnsupported(err)
}

// listObjects lists the nexthop objects; a kernel before 5.3 has none.
func (w *Watcher) listObjects() error {
	all := question(func(b *rtnl.Builder) { b.Nexthop(rtnl.Nexthop{}) })
	err := w.dump.dump(unix.RTM_GETNEXTHOP, all, func() { clear(w.state.objects) }, func(m rtnl.Message) {
		if o, ok := parseObject(m.Body); ok {
			w.state.objects[o.id] = o
		}
	})
	return unlessUnsupported(err)
}

func unlessUnsupported(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// listTables lists the routes of both families; the routes of an interrupted dump
// are used until the next one.
func (w *Watcher) listTables() error {
	var lists [2][]route
	var interrupted error
	for i, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		all := question(func(b *rtnl.Builder) { b.Route(&rtnl.Route{Family: family}) })
		err := w.dump.dump(unix.RTM_GETROUTE, all, func() { lists[i] = nil }, func(m rtnl.Message) {
			if r, ok := parseRoute(m.Body); ok {
				lists[i] = append(lists[i], r)
			}
		})
		switch err := unlessUnsupported(err); {
		case errors.Is(err, errInterrupted):
			interrupted = err
		case err != nil:
			return err
		}
	}
	w.state.routes = slices.Concat(lists[0], lists[1])
	return interrupted
}
