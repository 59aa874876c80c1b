// Part of the patch memory/prefix-tables.

package table

import (
	"encoding/binary"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// destinations finds a table's destinations by prefix. A prefix of IPv4
// unicast is a machine word and one of IPv6 unicast an array, so a look-up
// makes no string and the maps hold none. The zero value is empty.
type destinations struct {
	v4     map[uint64]*Destination
	v6     map[[17]byte]*Destination
	others map[string]*Destination
}

func key4(n *bgp.IPAddrPrefix) uint64 {
	var a [4]byte
	copy(a[:], n.Prefix.To4())
	return uint64(binary.BigEndian.Uint32(a[:]))<<8 | uint64(n.Length)
}

func key6(n *bgp.IPv6AddrPrefix) (k [17]byte) {
	copy(k[:16], n.Prefix.To16())
	k[16] = n.Length
	return k
}

func (d *destinations) get(nlri bgp.AddrPrefixInterface) *Destination {
	switch n := nlri.(type) {
	case *bgp.IPAddrPrefix:
		return d.v4[key4(n)]
	case *bgp.IPv6AddrPrefix:
		return d.v6[key6(n)]
	}
	return d.others[tableKey(nlri)]
}

func (d *destinations) put(dst *Destination) {
	switch n := dst.nlri.(type) {
	case *bgp.IPAddrPrefix:
		if d.v4 == nil {
			d.v4 = make(map[uint64]*Destination)
		}
		d.v4[key4(n)] = dst
	case *bgp.IPv6AddrPrefix:
		if d.v6 == nil {
			d.v6 = make(map[[17]byte]*Destination)
		}
		d.v6[key6(n)] = dst
	default:
		if d.others == nil {
			d.others = make(map[string]*Destination)
		}
		d.others[tableKey(n)] = dst
	}
}

// remove forgets dst. A map that becomes empty is let go: it keeps the memory
// of the most it has held.
func (d *destinations) remove(dst *Destination) {
	switch n := dst.nlri.(type) {
	case *bgp.IPAddrPrefix:
		if delete(d.v4, key4(n)); len(d.v4) == 0 {
			d.v4 = nil
		}
	case *bgp.IPv6AddrPrefix:
		if delete(d.v6, key6(n)); len(d.v6) == 0 {
			d.v6 = nil
		}
	default:
		if delete(d.others, tableKey(n)); len(d.others) == 0 {
			d.others = nil
		}
	}
}

func (d *destinations) len() int {
	return len(d.v4) + len(d.v6) + len(d.others)
}

// all is an iterator over the destinations.
func (d *destinations) all(yield func(*Destination) bool) {
	for _, dst := range d.v4 {
		if !yield(dst) {
			return
		}
	}
	for _, dst := range d.v6 {
		if !yield(dst) {
			return
		}
	}
	for _, dst := range d.others {
		if !yield(dst) {
			return
		}
	}
}
