package fib

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// matcher finds the nexthop of a route or an object of the kernel.
type matcher struct {
	hops             *targets
	source4, source6 netip.Addr // see Config
	unknown          *nexthop   // stands for a route of ours unlike any we write
}

// shows reports whether r points at nh, without an allocation.
func (m *matcher) shows(nh *nexthop, r *wireRoute) bool {
	if r.odd || nh.takesSource() && !m.sourceFits(r) {
		return false
	}
	switch nh.kind {
	case blackholeHop:
		return r.kind == unix.RTN_BLACKHOLE
	case opaqueHop:
		return nh.id != 0 && nh.id == r.nhid
	case linkHop:
		return r.kind == unix.RTN_UNICAST && r.nhid == 0 && r.count == 1 && nh.is(r.hop[0])
	case gatewayHop, groupHop:
	}
	if r.kind != unix.RTN_UNICAST {
		return false
	}
	if m.hops.objects {
		return r.nhid != 0 && r.nhid == nh.id
	}
	return r.nhid == 0 && nh.has(r)
}

// sourceFits reports whether r has the configured source address.
func (m *matcher) sourceFits(r *wireRoute) bool {
	want := m.source4
	if r.key.prefix.Addr().Is6() {
		want = m.source6
	}
	return r.source == want
}

// route returns the nexthop that r points at; unknown if we would write no such
// route.
func (m *matcher) route(r *wireRoute) *nexthop {
	switch {
	case r.kind == unix.RTN_BLACKHOLE && !r.odd:
		return m.hops.blackhole
	case r.nhid != 0:
		if nh := m.hops.byID[r.nhid]; nh != nil && m.shows(nh, r) {
			return nh
		}
		return m.unknown
	case r.kind != unix.RTN_UNICAST || r.count == 0 || r.count > len(r.hop):
		return m.unknown
	}
	nh := m.plain(r)
	if nh != nil && m.shows(nh, r) {
		return nh
	}
	return m.unknown
}

// plain returns the nexthop with r's gateways, nil if a device has no name any
// more.
func (m *matcher) plain(r *wireRoute) *nexthop {
	var gk groupKey
	v6 := r.key.prefix.Addr().Is6()
	for i, h := range r.hops() {
		k := hopKey{via: h.via, onlink: h.onlink, v6: v6, link: r.count == 1 && !h.via.IsValid()}
		if h.via.IsValid() {
			k.v6 = h.via.Is6()
		}
		if gk[i] = m.hops.internIndex(k, h.oif); gk[i] == nil {
			return nil
		}
	}
	if r.count == 1 {
		return gk[0]
	}
	return m.hops.internGroup(gk)
}

// object returns the nexthop with n's attributes; nil if we would write no such
// object. The kernel dumps by ascending ID, so that members usually come before
// their group; otherwise a later reading tells them apart.
func (m *matcher) object(n *wireNexthop) *nexthop {
	if n.odd || !m.hops.objects || n.count > len(n.member) {
		return nil
	}
	if n.count == 0 {
		k := hopKey{via: n.single.via, onlink: n.single.onlink, v6: n.v6}
		return m.hops.internIndex(k, n.single.oif)
	}
	var gk groupKey
	for i, one := range n.member[:n.count] {
		nh := m.hops.byID[one.id]
		if nh == nil || nh.kind != gatewayHop || one.weight != 0 {
			return nil
		}
		gk[i] = nh
	}
	return m.hops.internGroup(gk)
}

// is reports whether h is the written form of the single nexthop nh.
func (nh *nexthop) is(h wireHop) bool {
	return nh.dev.index == h.oif && nh.dev.index != 0 && nh.key.via == h.via && h.weight == 0 && nh.key.onlink == h.onlink
}

// has reports whether r has exactly the gateways of nh. The kernel may list
// the members of an IPv6 route in another order.
func (nh *nexthop) has(r *wireRoute) bool {
	if nh.kind == gatewayHop {
		return r.count == 1 && nh.is(r.hop[0])
	}
	if r.count != len(nh.members) {
		return false
	}
	for _, m := range nh.members {
		found := false
		for _, h := range r.hops() {
			found = found || m.is(h)
		}
		if !found {
			return false
		}
	}
	return true
}

// isObject reports whether n is the written form of nh.
func (nh *nexthop) isObject(n *wireNexthop) bool {
	switch nh.kind {
	case opaqueHop:
		return true
	case gatewayHop:
		return !n.odd && n.count == 0 && n.v6 == nh.key.v6 && nh.is(n.single)
	case groupHop:
		if n.odd || n.count != len(nh.members) {
			return false
		}
		for i, m := range nh.members {
			if n.member[i] != (wireMember{id: m.id}) {
				return false
			}
		}
		return true
	case blackholeHop, linkHop:
	}
	return false
}
