package rib

import "net/netip"

// verdict is a route without its prefix.
type verdict struct {
	hops   Hops
	kind   Kind
	reason Reason
}

// absent is the verdict of a prefix without a source: no path, pod, own block or
// aggregate.
var absent = verdict{kind: Unresolved, reason: ReasonNoPath}

// entry is the state of one prefix.
type entry struct {
	prefix     netip.Prefix
	ways       *ways  // nil when BGP has no path
	prev, next *entry // in ways' list
	now        verdict
	told       verdict // now, as of the last Drain
	own        bool
	summed     bool
	pod        bool
	pooled     bool // in a pool and not refused as a whole: its next hops are nodes
	dirty      bool // in changes.dirty
}

// gone reports whether the prefix has no source left; the entry stays until Drain
// has returned the deletion.
func (e *entry) gone() bool { return e.ways == nil && !e.own && !e.summed && !e.pod }

// leads reports whether other routes may resolve through e.
func (e *entry) leads() bool {
	return e.pod || e.own || e.summed || e.ways != nil && hasOuter(e.ways.hops)
}

// route returns the decided route of e.
func (e *entry) route() Route {
	return Route{Prefix: e.prefix, Kind: e.now.kind, Reason: e.now.reason, Hops: e.now.hops}
}
