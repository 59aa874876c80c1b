package fib

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
)

// Stats counts what a Table did since it was made.
type Stats struct {
	Added          uint64 // routes created
	Changed        uint64 // routes replaced
	Deleted        uint64 // routes removed
	Moved          uint64 // routes changed by changing their nexthop object in place, without a write of their own
	Objects        uint64 // nexthop objects and groups written
	ObjectsDeleted uint64
	Drift          uint64 // routes believed to be installed that the kernel had lost or held differently
	Errors         uint64 // refusals, attempts at the same route counted each
	Resyncs        uint64
	LastResync     time.Duration // how long the latest Resync took
	Desired        int           // routes desired now
	Failing        int           // desired and not installed, pending ones included
	Stale          int           // of a previous run, not desired (yet), kept until AllowSweep
	Nexthops       int           // nexthop objects the kernel holds
}

// Stats returns the counters.
func (t *Table) Stats() Stats {
	s := t.stats
	s.Failing = len(t.failing)
	s.Desired = max(0, t.routes.len()-s.Stale)
	s.Nexthops = len(t.hops.byID)
	return s
}

// Failure says why a desired route is not in the kernel.
type Failure struct {
	Prefix        netip.Prefix
	Err           error
	OwnerProtocol string // name of the protocol that holds the key, when Err is ErrForeign
	Dev           string // device the route goes out of; empty for multipath and blackhole
}

// Failures returns the desired routes that could not be installed, by prefix.
// Pending pod routes are not among them.
func (t *Table) Failures() []Failure {
	var list []Failure
	for e := range t.failing {
		if errors.Is(e.fail.err, ErrPending) {
			continue
		}
		f := Failure{Prefix: e.prefix, Err: e.fail.err, OwnerProtocol: e.fail.owner}
		if nh := e.want.target(); nh != nil && nh.dev != nil {
			f.Dev = nh.dev.name
		}
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b Failure) int { return a.Prefix.Compare(b.Prefix) })
	return list
}

// Installed reports whether the kernel holds p as it is desired, as far as is
// known. If not, the error says why: nil when p is not desired, [ErrQueued]
// before the next Apply, [ErrPending] for a pod whose device is not there
// yet, else what [Table.Failures] says.
func (t *Table) Installed(p netip.Prefix) (bool, error) {
	e := t.routes.get(p.Masked())
	switch {
	case e == nil || e.want == nil:
		return false, nil
	case e.fail != nil:
		return false, e.fail.err
	case e.queued || !e.clean():
		return false, ErrQueued
	}
	return true, nil
}

// KernelHop is one next hop of a [KernelRoute].
type KernelHop struct {
	Via    netip.Addr // zero: the destination is on Dev
	Dev    string
	Onlink bool
}

// KernelRoute is a route of our protocol as the kernel holds it.
type KernelRoute struct {
	Prefix    netip.Prefix
	Type      string // unicast, blackhole, or the number of another type
	Metric    uint32
	NexthopID uint32 // 0: plain gateways
	Hops      []KernelHop
}

// Blackhole is the Type of a drop route.
const Blackhole = "blackhole"

// Dump reads the kernel's routes of our protocol, ordered by prefix.
func (t *Table) Dump(ctx context.Context) ([]KernelRoute, error) {
	if err := t.kernelOpen(ctx); err != nil {
		return nil, err
	}
	names := make(map[uint32]string)
	name := func(index uint32) string {
		if n, ok := names[index]; ok {
			return n
		}
		n, err := t.kernel.linkName(index)
		if err != nil {
			n = fmt.Sprintf("if%d", index)
		}
		names[index] = n
		return n
	}
	var list []KernelRoute
	see := func(r *wireRoute) {
		k := KernelRoute{Prefix: r.key.prefix, Type: typeName(r.kind), Metric: r.key.metric, NexthopID: r.nhid}
		if r.kind == unix.RTN_UNICAST {
			for _, h := range r.hops() {
				k.Hops = append(k.Hops, KernelHop{Via: h.via, Dev: name(h.oif), Onlink: h.onlink})
			}
		}
		list = append(list, k)
	}
	var err error
	for range readAttempts {
		list = nil
		if err = t.kernel.routes(ours.Protocol, see); !errors.Is(err, errInterrupted) {
			break
		}
	}
	if err != nil && !errors.Is(err, errInterrupted) {
		return nil, err
	}
	slices.SortStableFunc(list, func(a, b KernelRoute) int {
		return cmp.Or(a.Prefix.Compare(b.Prefix), cmp.Compare(a.Metric, b.Metric))
	})
	return list, nil
}

// typeName returns ip-route(8)'s name of a route type.
func typeName(kind uint8) string {
	switch kind {
	case unix.RTN_UNICAST:
		return "unicast"
	case unix.RTN_BLACKHOLE:
		return Blackhole
	}
	return fmt.Sprintf("type %d", kind)
}

// String renders nh as ip-nexthop(8) does.
func (nh *nexthop) String() string {
	switch nh.kind {
	case blackholeHop:
		return "blackhole"
	case opaqueHop:
		return fmt.Sprintf("id %d", nh.id)
	case groupHop:
		parts := make([]string, len(nh.members))
		for i, m := range nh.members {
			parts[i] = m.String()
		}
		return strings.Join(parts, ", ")
	case linkHop, gatewayHop:
	}
	s := "dev " + nh.key.dev
	if nh.key.via.IsValid() {
		s = fmt.Sprintf("via %v ", nh.key.via) + s
	}
	if nh.key.onlink {
		s += " onlink"
	}
	return s
}
