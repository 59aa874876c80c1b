package fib

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

// memRoute is a route in the kernel in memory.
type memRoute struct {
	protocol, kind uint8
	nhid           uint32
	hops           []wireHop
}

// same reports whether both are one route.
func (m memRoute) same(o memRoute) bool {
	return m.protocol == o.protocol && m.kind == o.kind && m.nhid == o.nhid && slices.Equal(m.hops, o.hops)
}

// memNexthop is a nexthop object in the kernel in memory.
type memNexthop struct {
	protocol uint8
	v6       bool
	single   wireHop
	members  []uint32
}

// memKernel behaves like the kernel's FIB towards a Table, and injects faults.
type memKernel struct {
	rnd       *rand.Rand
	faults    float64 // probability of a fault per request, and per call
	noObjects bool
	links     map[string]uint32
	nextLink  uint32
	fib       map[routeKey]memRoute
	nhs       map[uint32]memNexthop
	wronged   []string // foreign routes a request changed
}

func newMemKernel(rnd *rand.Rand) *memKernel {
	return &memKernel{
		rnd: rnd, links: map[string]uint32{}, nextLink: 1,
		fib: map[routeKey]memRoute{}, nhs: map[uint32]memNexthop{},
	}
}

func (k *memKernel) close() error { return nil }

func (k *memKernel) fault() bool { return k.rnd.Float64() < k.faults }

// write carries out the requests; after an ENOBUFS an unknown part of them is
// done.
func (k *memKernel) write(reqs []request) error {
	lostAfter := -1
	if k.fault() {
		lostAfter = k.rnd.IntN(len(reqs) + 1)
	}
	for i := range reqs {
		if i == lostAfter {
			return unix.ENOBUFS
		}
		reqs[i].err = nil
		errno := k.one(&reqs[i])
		if errno != 0 {
			reqs[i].err = &rtnl.Error{Errno: errno}
		}
	}
	if lostAfter >= 0 {
		return unix.ENOBUFS
	}
	return nil
}

func (k *memKernel) one(r *request) syscall.Errno {
	if k.fault() {
		all := []syscall.Errno{unix.EEXIST, unix.ENOBUFS, unix.EINTR, unix.ENETUNREACH, unix.ESRCH, unix.EINVAL, unix.ENOENT}
		if r.verb == deleteRoute || r.verb == deleteNexthop {
			all = []syscall.Errno{unix.ENOBUFS, unix.EINTR} // "absent" would be a lie, not a fault
		}
		return all[k.rnd.IntN(len(all))]
	}
	switch r.verb {
	case addRoute, replaceRoute:
		return k.putRoute(r)
	case deleteRoute:
		old, ok := k.fib[r.key]
		if !ok || old.protocol != ours.Protocol {
			return unix.ESRCH
		}
		delete(k.fib, r.key)
	case addNexthop, replaceNexthop:
		return k.putNexthop(r)
	case deleteNexthop:
		if _, ok := k.nhs[r.id]; !ok {
			return unix.ENOENT
		}
		k.removeNexthop(r.id)
	}
	return 0
}

func (k *memKernel) putRoute(r *request) syscall.Errno {
	old, there := k.fib[r.key]
	switch {
	case r.verb == addRoute && there:
		return unix.EEXIST
	case r.verb == replaceRoute && !there:
		return unix.ENOENT
	case there && old.protocol != ours.Protocol:
		k.wronged = append(k.wronged, fmt.Sprintf("%v replaced", r.key))
	}
	m := memRoute{protocol: ours.Protocol, kind: unix.RTN_UNICAST}
	switch {
	case r.id != 0:
		if _, ok := k.nhs[r.id]; !ok {
			return unix.EINVAL
		}
		m.nhid = r.id
	case r.nh.kind == blackholeHop:
		m.kind = unix.RTN_BLACKHOLE
	default:
		for _, one := range r.nh.singles() {
			if !k.hasLink(one.dev.index) {
				return unix.ENODEV
			}
			m.hops = append(m.hops, one.wire())
		}
	}
	k.fib[r.key] = m
	return 0
}

func (nh *nexthop) wire() wireHop {
	return wireHop{via: nh.key.via, oif: nh.dev.index, onlink: nh.key.onlink}
}

func (k *memKernel) hasLink(index uint32) bool {
	for _, i := range k.links {
		if i == index {
			return true
		}
	}
	return false
}

func (k *memKernel) putNexthop(r *request) syscall.Errno {
	old, there := k.nhs[r.id]
	if there && r.verb == addNexthop {
		return unix.EEXIST
	}
	if there && old.protocol != ours.Protocol {
		k.wronged = append(k.wronged, fmt.Sprintf("nexthop %d replaced", r.id))
	}
	n := memNexthop{protocol: ours.Protocol}
	if r.nh.kind == groupHop {
		for _, m := range r.nh.members {
			if one, ok := k.nhs[m.id]; !ok || len(one.members) > 0 {
				return unix.EINVAL
			}
			n.members = append(n.members, m.id)
		}
	} else {
		if !k.hasLink(r.nh.dev.index) {
			return unix.ENODEV
		}
		n.v6, n.single = r.nh.key.v6, r.nh.wire()
	}
	if there && (len(old.members) > 0) != (len(n.members) > 0) {
		return unix.EINVAL
	}
	k.nhs[r.id] = n
	return 0
}

// removeNexthop takes the object's routes and memberships along.
func (k *memKernel) removeNexthop(id uint32) {
	delete(k.nhs, id)
	for key, r := range k.fib {
		if r.nhid == id {
			delete(k.fib, key)
		}
	}
	for gid, g := range k.nhs {
		if !slices.Contains(g.members, id) {
			continue
		}
		g.members = slices.DeleteFunc(slices.Clone(g.members), func(m uint32) bool { return m == id })
		k.nhs[gid] = g
		if len(g.members) == 0 {
			k.removeNexthop(gid)
		}
	}
}

// addLink makes a device with a new index.
func (k *memKernel) addLink(name string) {
	if k.links[name] == 0 {
		k.links[name] = k.nextLink
		k.nextLink++
	}
}

// dropLink removes a device and the routes over it.
func (k *memKernel) dropLink(name string) {
	index := k.links[name]
	if index == 0 {
		return
	}
	delete(k.links, name)
	for id, n := range k.nhs {
		if len(n.members) == 0 && n.single.oif == index {
			k.removeNexthop(id)
		}
	}
	for key, r := range k.fib {
		if slices.ContainsFunc(r.hops, func(h wireHop) bool { return h.oif == index }) {
			delete(k.fib, key)
		}
	}
}

func (k *memKernel) linkIndex(name string) (uint32, error) {
	if i := k.links[name]; i != 0 {
		return i, nil
	}
	return 0, ErrNoDevice
}

func (k *memKernel) linkName(index uint32) (string, error) {
	for name, i := range k.links {
		if i == index {
			return name, nil
		}
	}
	return "", ErrNoDevice
}

// show fills r with the route of key.
func (k *memKernel) show(key routeKey, m memRoute, r *wireRoute) {
	*r = wireRoute{wireHead: wireHead{key: key, table: unix.RT_TABLE_MAIN, protocol: m.protocol, kind: m.kind, nhid: m.nhid}}
	r.count = copy(r.hop[:], m.hops)
}

// dumpFault returns a dump's fault: interrupted, or the socket's.
func (k *memKernel) dumpFault() error {
	if !k.fault() {
		return nil
	}
	return []error{errInterrupted, unix.ENOBUFS, &rtnl.Error{Errno: unix.EINTR}}[k.rnd.IntN(3)]
}

func (k *memKernel) routes(protocol uint8, each func(*wireRoute)) error {
	err := k.dumpFault()
	var r wireRoute
	for key, m := range k.fib {
		if err != nil && k.rnd.IntN(3) == 0 {
			continue // a faulty dump misses some
		}
		if protocol == 0 || m.protocol == protocol {
			k.show(key, m, &r)
			each(&r)
		}
	}
	return err
}

func (k *memKernel) nexthops(each func(*wireNexthop)) error {
	if k.noObjects {
		return &rtnl.Error{Errno: unix.EOPNOTSUPP}
	}
	err := k.dumpFault()
	ids := make([]uint32, 0, len(k.nhs))
	for id := range k.nhs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		if err != nil && k.rnd.IntN(3) == 0 {
			continue
		}
		m := k.nhs[id]
		n := wireNexthop{id: id, protocol: m.protocol, v6: m.v6, single: m.single, count: len(m.members)}
		for i, member := range m.members {
			n.member[i] = wireMember{id: member}
		}
		each(&n)
	}
	return err
}

func (k *memKernel) lookup(p netip.Prefix, r *wireRoute) error {
	if k.fault() {
		return unix.ENOBUFS
	}
	best := routeKey{}
	for key := range k.fib {
		if key.prefix.Contains(p.Addr()) && (!best.prefix.IsValid() || key.prefix.Bits() > best.prefix.Bits()) {
			best = key
		}
	}
	if !best.prefix.IsValid() {
		return unix.ENETUNREACH
	}
	k.show(best, k.fib[best], r)
	return nil
}
