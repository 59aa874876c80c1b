package underlay

import (
	"maps"
	"net/netip"
	"slices"
)

// manyPrefixes is the largest number of changed prefixes in one Events; more
// become All.
const manyPrefixes = 512

// Events holds the changes since the last [Watcher.Drain]; the Watcher answers
// from the latest state.
type Events struct {
	// All is set when any next hop may be reached otherwise now.
	All bool
	// Prefixes are the routes that appeared, vanished or answer otherwise; only
	// next hops inside one may be reached otherwise now.
	Prefixes []netip.Prefix
	// Links are the names of devices, ours too, that appeared, vanished, went up or
	// down, or changed name, MTU, group or alias; sorted. The kernel has dropped
	// the routes over those that vanished or went down.
	Links []string
	// Addrs is set when the addresses of this node changed: read Addrs and Subnets
	// again.
	Addrs bool
	// Touched is set when another program than fib changed a route or nexthop
	// object of our protocol: the kernel may lack a written route.
	Touched bool
	// Relisted is set when notifications were lost: links may have gone and come
	// back without being named.
	Relisted bool
}

// Empty reports whether nothing changed.
func (e Events) Empty() bool {
	return !e.All && !e.Addrs && !e.Touched && !e.Relisted && len(e.Prefixes) == 0 && len(e.Links) == 0
}

// Affects reports whether the next hop may be reached otherwise now.
func (e Events) Affects(nextHop netip.Addr) bool {
	return e.All || slices.ContainsFunc(e.Prefixes, func(p netip.Prefix) bool {
		return p.Contains(nextHop.WithZone(""))
	})
}

// merge adds later events.
func (e *Events) merge(o Events) {
	e.All = e.All || o.All
	e.Addrs = e.Addrs || o.Addrs
	e.Touched = e.Touched || o.Touched
	e.Relisted = e.Relisted || o.Relisted
	e.Links = slices.Compact(slices.Sorted(slices.Values(append(e.Links, o.Links...))))
	e.Prefixes = append(e.Prefixes, o.Prefixes...)
	if e.All || len(e.Prefixes) > manyPrefixes {
		e.All, e.Prefixes = true, nil
	}
}

// linkLocals are the addresses that depend on their device alone.
var linkLocals = netip.MustParsePrefix("fe80::/10")

// difference returns the changes between the answers of two snapshots.
func difference(old, now *snapshot) Events {
	var e Events
	e.Prefixes = append(differing(old.local.answers, now.local.answers), differing(old.main.answers, now.main.answers)...)
	e.Addrs = !slices.Equal(old.addrs, now.addrs)
	if !maps.EqualFunc(old.devices, now.devices, func(a, b link) bool { return a.usable() == b.usable() }) {
		e.Prefixes = append(e.Prefixes, linkLocals)
	}
	if len(e.Prefixes) > manyPrefixes {
		e.All, e.Prefixes = true, nil
	}
	return e
}

// differing returns the keys whose values differ or that only one has.
func differing(a, b map[netip.Prefix]answer) []netip.Prefix {
	var out []netip.Prefix
	for p, x := range a {
		if y, ok := b[p]; !ok || x != y {
			out = append(out, p)
		}
	}
	for p := range maps.Keys(b) {
		if _, ok := a[p]; !ok {
			out = append(out, p)
		}
	}
	return out
}
