package rib

import (
	"encoding/binary"
	"net/netip"
)

// index finds the entries by prefix. An IPv4 prefix is found by one machine
// word, which takes half the memory of a netip.Prefix and is hashed faster.
// The zero value is empty.
type index struct {
	v4 map[uint64]*entry
	v6 map[netip.Prefix]*entry
}

// word packs an IPv4 prefix into one machine word.
func word(p netip.Prefix) uint64 {
	a := p.Addr().As4()
	return uint64(binary.BigEndian.Uint32(a[:]))<<8 | uint64(p.Bits())
}

// get returns the entry of p, nil if there is none. p must be masked; an
// invalid p has none.
func (x *index) get(p netip.Prefix) *entry {
	if p.Addr().Is4() {
		return x.v4[word(p)]
	}
	return x.v6[p]
}

// put adds the entry of a prefix that has none.
func (x *index) put(e *entry) {
	if e.prefix.Addr().Is4() {
		if x.v4 == nil {
			x.v4 = make(map[uint64]*entry)
		}
		x.v4[word(e.prefix)] = e
		return
	}
	if x.v6 == nil {
		x.v6 = make(map[netip.Prefix]*entry)
	}
	x.v6[e.prefix] = e
}

// remove deletes e.
func (x *index) remove(e *entry) {
	if e.prefix.Addr().Is4() {
		delete(x.v4, word(e.prefix))
		return
	}
	delete(x.v6, e.prefix)
}

func (x *index) len() int { return len(x.v4) + len(x.v6) }

// all is an iterator over the entries, in no order.
func (x *index) all(yield func(*entry) bool) {
	for _, e := range x.v4 {
		if !yield(e) {
			return
		}
	}
	for _, e := range x.v6 {
		if !yield(e) {
			return
		}
	}
}

// longest returns the route of the longest prefix that contains addr and for which
// want returns true; false when there is none.
func (x *index) longest(addr netip.Addr, want func(*entry) bool) (Route, bool) {
	addr = addr.Unmap().WithZone("")
	for bits := addr.BitLen(); bits >= 0 && addr.IsValid(); bits-- {
		e := x.get(netip.PrefixFrom(addr, bits).Masked())
		if e != nil && !e.gone() && want(e) {
			return e.route(), true
		}
	}
	return Route{}, false
}
