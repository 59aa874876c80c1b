package fib

import "onlink/internal/ours"

// seeNexthop takes note of one nexthop object in our range of IDs.
func (t *Table) seeNexthop(n *wireNexthop) {
	if n.protocol != ours.Protocol {
		if nh := t.hops.byID[n.id]; nh != nil {
			t.hops.unnumber(nh)
		}
		t.hops.foreign[n.id] = true
		return
	}
	delete(t.hops.foreign, n.id)
	nh := t.hops.byID[n.id]
	if nh == nil {
		nh = t.adopt(n)
	}
	nh.seen = t.gen
	nh.live = t.isObject(nh, n)
}

// isObject reports whether n is what nh is written as.
func (t *Table) isObject(nh *nexthop, n *wireNexthop) bool {
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

// adopt makes an object that a previous run (or a hand) left ours: under the
// nexthop with its attributes if that has no object yet, else as an opaque
// one that only waits to be swept.
func (t *Table) adopt(n *wireNexthop) *nexthop {
	nh := t.likeObject(n)
	if nh == nil || nh.id != 0 {
		nh = &nexthop{kind: opaqueHop}
	}
	nh.id = n.id
	nh.stale = nh.refs == 0 && nh.groups == 0 && !t.sweep
	t.hops.byID[n.id] = nh
	t.hops.idleCheck(nh)
	return nh
}

// likeObject returns the nexthop with n's attributes; nil if we would not
// write such a one. The kernel dumps by ascending ID, and a group is younger
// than its members, or they are told apart by a later reading.
func (t *Table) likeObject(n *wireNexthop) *nexthop {
	if n.odd || !t.objects || n.count > len(n.member) {
		return nil
	}
	if n.count == 0 {
		k := hopKey{via: n.single.via, onlink: n.single.onlink, v6: n.v6}
		return t.internIndex(k, n.single.oif)
	}
	var gk groupKey
	for i, m := range n.member[:n.count] {
		nh := t.hops.byID[m.id]
		if nh == nil || nh.kind != gatewayHop || m.weight != 0 {
			return nil
		}
		gk[i] = nh
	}
	return t.hops.internGroup(gk)
}

// missingNexthops finds the objects the kernel lost, or holds differently,
// and queues those that are desired.
func (t *Table) missingNexthops() {
	for id, nh := range t.hops.byID {
		if nh.seen != t.gen {
			nh.live = false
			if nh.kind == opaqueHop || nh.refs == 0 && nh.groups == 0 {
				delete(t.hops.byID, id)
				nh.id, nh.stale = 0, false
				t.hops.idleCheck(nh)
				continue
			}
		}
		if nh.seen == t.gen && !nh.stale {
			t.hops.idleCheck(nh) // one whose removal failed
		}
		if !nh.live && (nh.refs > 0 || nh.groups > 0) {
			t.hops.broken = append(t.hops.broken, nh)
		}
	}
}
