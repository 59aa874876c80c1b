package fib

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"onlink/rib"
)

// hopKind is the kind of a nexthop.
type hopKind uint8

const (
	opaqueHop    hopKind = iota // ours in the kernel, in a form that we do not write
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

// nexthop is the target of routes. With nexthop objects a gateway or group is
// one kernel object; otherwise it is only the attributes of routes.
//
//	refs > 0    desired by a route
//	groups > 0  member of a known group
//	users > 0   a kernel route points at it
//
// It is dropped, and its object deleted, when all three are 0.
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
	seen    uint32     // the reading of the kernel that showed the object
	refs    int
	groups  int
	users   int

	// Of one round of Apply: the heir that all routes over it move to (in place, if
	// it is one new nexthop), the number of moving routes, and the reason that it
	// cannot be written.
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

// setKey identifies a hopset: the hops that rib decided, and their family.
type setKey struct {
	hops rib.Hops
	kind rib.Kind
	v6   bool
}

// hopset is a decided set of hops and its nexthop.
type hopset struct {
	key  setKey
	refs int
	nh   *nexthop // nil if err is set
	err  error    // why the kernel cannot express it
}

// target returns the desired nexthop, nil for "no route".
func (s *hopset) target() *nexthop {
	if s == nil {
		return nil
	}
	return s.nh
}

// link returns the device of a pod's route, nil for others.
func (s *hopset) link() *device {
	if s.nh == nil || s.nh.kind != linkHop {
		return nil
	}
	return s.nh.dev
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

// forgetIndex has the devices of nh looked up again before the next attempt: one
// may have been recreated.
func (nh *nexthop) forgetIndex() {
	if nh.dev != nil {
		nh.dev.index = 0
	}
	for _, m := range nh.members {
		m.dev.index = 0
	}
}
