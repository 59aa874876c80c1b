package fib

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
)

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
