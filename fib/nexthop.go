package fib

import (
	"fmt"
	"net/netip"
	"slices"

	"onlink/internal/ours"
	"onlink/rib"
)

// hopKind is what a nexthop is.
type hopKind uint8

const (
	opaqueHop    hopKind = iota // ours in the kernel, but nothing we would write
	blackholeHop                // drops packets; no object
	linkHop                     // the destination is on the device itself; no object
	gatewayHop                  // a gateway (or, in groups, a bare device)
	groupHop                    // several gateways, multipath
)

// hopKey is the identity of a nexthop that is not a group. Two rib.Hops that
// differ in their Reason only are the same nexthop.
type hopKey struct {
	via    netip.Addr
	dev    string
	onlink bool
	link   bool // linkHop
	v6     bool // family of the object
}

// groupKey is the identity of a group: its members, in order.
type groupKey [rib.MaxHops]*nexthop

// nexthop is what routes point at. With nexthop objects a gateway or group is
// one kernel object; otherwise it is only the attributes of routes.
//
//	refs > 0    desired by a route
//	groups > 0  member of a group we know
//	users > 0   a kernel route points at it
//
// It is forgotten, and its object deleted, when all three are 0.
type nexthop struct {
	kind    hopKind
	key     hopKey
	members []*nexthop // of a group
	gkey    groupKey   // of a group
	dev     *device    // of a link or gateway
	id      uint32     // object ID, 0: none yet
	live    bool       // the kernel holds the object with these attributes
	stale   bool       // a previous run's object, not swept before AllowSweep
	idle    bool       // in targets.idle
	seen    uint32     // reading of the kernel that showed the object
	refs    int
	groups  int
	users   int

	// Of one round of Apply: where all routes over it go (in place, if it is
	// one new nexthop), how many go, and why it cannot be written.
	heir   *nexthop
	movers int
	split  bool
	err    error
	needed bool
}

// object reports whether nh is a kernel object where those are in use.
func (nh *nexthop) object() bool { return nh.kind == gatewayHop || nh.kind == groupHop }

// takesSource reports whether routes to nh carry the preferred source
// address. A pod's route has none: the CNI plugin writes it the same way.
func (nh *nexthop) takesSource() bool { return nh.object() }

// unused reports whether nothing refers to nh.
func (nh *nexthop) unused() bool { return nh.refs == 0 && nh.groups == 0 && nh.users == 0 }

// singles returns the members of a group, or the nexthop itself.
func (nh *nexthop) singles() []*nexthop {
	if nh.kind == groupHop {
		return nh.members
	}
	return []*nexthop{nh}
}

// uses reports whether packets to nh leave through d.
func (nh *nexthop) uses(d *device) bool {
	return nh != nil && slices.ContainsFunc(nh.singles(), func(one *nexthop) bool { return one.dev == d })
}

// device is a link by name.
type device struct {
	name  string
	index uint32 // 0: not looked up, or absent
	users int    // gatewayHops on it
	links int    // linkHops on it
	local map[*entry]struct{}
}

// setKey identifies a hopset: what rib decided, and the family it is for.
type setKey struct {
	hops rib.Hops
	kind rib.Kind
	v6   bool
}

// hopset is a decided set of hops and the nexthop that carries it out.
type hopset struct {
	key  setKey
	refs int
	nh   *nexthop // nil if err is set
	err  error    // why it cannot be expressed
}

// target returns the wanted nexthop, nil for "no route".
func (s *hopset) target() *nexthop {
	if s == nil {
		return nil
	}
	return s.nh
}

// watch registers the entry of a pod's route with its device, or removes it.
func (s *hopset) watch(e *entry, on bool) {
	if s.nh == nil || s.nh.kind != linkHop {
		return
	}
	if on {
		if s.nh.dev.local == nil {
			s.nh.dev.local = make(map[*entry]struct{})
		}
		s.nh.dev.local[e] = struct{}{}
		return
	}
	delete(s.nh.dev.local, e)
}

// targets owns every nexthop, device and hopset of a Table.
type targets struct {
	sets      map[setKey]*hopset
	latest    *hopset // acquired last, nil once it is released
	single    map[hopKey]*nexthop
	group     map[groupKey]*nexthop
	byID      map[uint32]*nexthop
	foreign   map[uint32]bool // IDs of our range that another protocol holds
	devs      map[string]*device
	byIndex   map[uint32]*device // filled by readings of the kernel
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
	g.devs = make(map[string]*device)
	g.byIndex = make(map[uint32]*device)
	g.blackhole = &nexthop{kind: blackholeHop}
	g.nextID = ours.FirstNexthopID
}

// acquire returns the hopset of key, with one more reference. The routes of a
// node come in a row, so the latest one is looked at first.
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

// release gives one reference back.
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
	nh := &nexthop{kind: gatewayHop, key: k, dev: g.device(k.dev)}
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

func (g *targets) device(name string) *device {
	d := g.devs[name]
	if d == nil {
		d = &device{name: name}
		g.devs[name] = d
	}
	return d
}

// idleCheck notes a nexthop nothing refers to; collect decides later, for it
// may be wanted again.
func (g *targets) idleCheck(nh *nexthop) {
	if nh.unused() && !nh.idle && nh != g.blackhole {
		nh.idle = true
		g.idle = append(g.idle, nh)
	}
}

// sweep makes the objects of a previous run ours to remove.
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
		if nh.dev.users == 0 && nh.dev.links == 0 {
			delete(g.devs, nh.dev.name)
		}
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

// unnumber takes nh's ID away, because somebody else holds it.
func (g *targets) unnumber(nh *nexthop) {
	delete(g.byID, nh.id)
	g.foreign[nh.id] = true
	nh.id, nh.live = 0, false
}
