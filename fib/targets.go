package fib

import (
	"fmt"

	"onlink/internal/ours"
	"onlink/rib"
)

// targets owns every nexthop, device and hopset of a Table.
type targets struct {
	sets      map[setKey]*hopset
	latest    *hopset // acquired last, nil once it is released
	single    map[hopKey]*nexthop
	group     map[groupKey]*nexthop
	byID      map[uint32]*nexthop
	foreign   map[uint32]bool // IDs of our range that another protocol holds
	devs      devices
	objects   bool // gateways and groups are objects of the kernel
	idle      []*nexthop
	broken    []*nexthop // desired objects the kernel lost
	blackhole *nexthop
	nextID    uint32
}

func (g *targets) init() {
	g.sets = make(map[setKey]*hopset)
	g.single = make(map[hopKey]*nexthop)
	g.group = make(map[groupKey]*nexthop)
	g.byID = make(map[uint32]*nexthop)
	g.foreign = make(map[uint32]bool)
	g.devs.init()
	g.blackhole = &nexthop{kind: blackholeHop}
	g.nextID = ours.FirstNexthopID
}

// acquire returns the hopset of key, with one more reference. The routes of a
// node come in a row, so it tries the latest one first.
func (g *targets) acquire(key setKey) *hopset {
	s := g.latest
	if s == nil || s.key != key {
		s = g.sets[key]
	}
	if s == nil {
		s = &hopset{key: key}
		s.nh, s.err = g.resolve(key)
		if s.nh != nil {
			s.nh.refs++
			s.nh.stale = false
		}
		g.sets[key] = s
	}
	g.latest = s
	s.refs++
	return s
}

// release drops one reference.
func (g *targets) release(s *hopset) {
	if s.refs--; s.refs > 0 {
		return
	}
	delete(g.sets, s.key)
	if g.latest == s {
		g.latest = nil
	}
	if s.nh != nil {
		s.nh.refs--
		g.idleCheck(s.nh)
	}
}

// resolve finds or makes the nexthop of key.
func (g *targets) resolve(key setKey) (*nexthop, error) {
	n := key.hops.Len()
	switch {
	case key.kind == rib.Blackhole:
		return g.blackhole, nil
	case n == 0:
		return nil, fmt.Errorf("%v route without hops: %w", key.kind, ErrBadRoute)
	case key.kind == rib.Local || n == 1 && !key.hops.At(0).Via.IsValid():
		return g.intern(hopKey{dev: key.hops.At(0).Dev, link: true, v6: key.v6}), nil
	}
	var gk groupKey
	i := 0
	for h := range key.hops.All() {
		k := hopKey{via: h.Via.Unmap().WithZone(""), dev: h.Dev, onlink: h.Onlink, v6: key.v6}
		if k.via.IsValid() {
			k.v6 = k.via.Is6()
		}
		if key.v6 && !k.v6 {
			return nil, fmt.Errorf("IPv6 prefix behind IPv4 gateway %v: %w", h.Via, ErrBadRoute)
		}
		if k.dev == "" {
			return nil, fmt.Errorf("gateway %v without a device: %w", h.Via, ErrBadRoute)
		}
		gk[i] = g.intern(k)
		i++
	}
	if n == 1 {
		return gk[0], nil
	}
	return g.internGroup(gk), nil
}

// intern returns the nexthop with key k.
func (g *targets) intern(k hopKey) *nexthop {
	if nh := g.single[k]; nh != nil {
		return nh
	}
	nh := &nexthop{kind: gatewayHop, key: k, dev: g.devs.named(k.dev)}
	if k.link {
		nh.kind = linkHop
		nh.dev.links++
	} else {
		nh.dev.users++
	}
	g.single[k] = nh
	return nh
}

// internGroup returns the group with the members gk.
func (g *targets) internGroup(gk groupKey) *nexthop {
	if nh := g.group[gk]; nh != nil {
		return nh
	}
	nh := &nexthop{kind: groupHop, gkey: gk}
	for _, m := range gk {
		if m != nil {
			m.groups++
			nh.members = append(nh.members, m)
		}
	}
	g.group[gk] = nh
	return nh
}

// internIndex is intern for a device known by its index; nil if the index has
// no name.
func (g *targets) internIndex(k hopKey, index uint32) *nexthop {
	d := g.devs.indexed(index)
	if d == nil {
		return nil
	}
	k.dev = d.name
	nh := g.intern(k)
	g.idleCheck(nh)
	return nh
}

// idleCheck records a nexthop without references; collect decides later, because
// it may be referred to again.
func (g *targets) idleCheck(nh *nexthop) {
	if nh.unused() && !nh.idle && nh != g.blackhole {
		nh.idle = true
		g.idle = append(g.idle, nh)
	}
}

// sweep lets the objects of a previous run be removed.
func (g *targets) sweep() {
	for _, nh := range g.byID {
		nh.stale = false
		g.idleCheck(nh)
	}
}

// forget drops an unused nexthop whose object, if any, is gone.
func (g *targets) forget(nh *nexthop) {
	if nh.id != 0 && g.byID[nh.id] == nh {
		delete(g.byID, nh.id)
	}
	nh.id, nh.live = 0, false
	switch nh.kind {
	case groupHop:
		delete(g.group, nh.gkey)
		for _, m := range nh.members {
			m.groups--
			g.idleCheck(m)
		}
	case gatewayHop, linkHop:
		delete(g.single, nh.key)
		if nh.kind == linkHop {
			nh.dev.links--
		} else {
			nh.dev.users--
		}
		g.devs.release(nh.dev)
	case blackholeHop, opaqueHop:
	}
}

// number gives nh a free object ID.
func (g *targets) number(nh *nexthop) {
	for g.byID[g.nextID] != nil || g.foreign[g.nextID] || g.nextID < ours.FirstNexthopID {
		g.nextID++
		g.nextID = max(g.nextID, ours.FirstNexthopID) // it wraps
	}
	nh.id = g.nextID
	g.byID[nh.id] = nh
	g.nextID++
}

// unnumber takes nh's ID away, because a foreign object holds it.
func (g *targets) unnumber(nh *nexthop) {
	delete(g.byID, nh.id)
	g.foreign[nh.id] = true
	nh.id, nh.live = 0, false
}

// gone records that the kernel no longer holds nh's object.
func (g *targets) gone(nh *nexthop) {
	if nh.id != 0 && g.byID[nh.id] == nh {
		delete(g.byID, nh.id)
	}
	nh.id, nh.live, nh.stale = 0, false, false
}

// resolveDevices looks up the indexes of nh's devices.
func (g *targets) resolveDevices(nh *nexthop) error {
	for _, m := range nh.members {
		if err := g.devs.resolve(m.dev); err != nil {
			return err
		}
	}
	return g.devs.resolve(nh.dev)
}
