// Part of the patch memory/peer-table.

package table

import (
	"sync/atomic"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// adjChanges counts the paths put into and removed from the tables of all
// peers. A table that is dropped as a whole is not counted: its paths are
// missing in the sum of all tables then.
var adjChanges atomic.Uint64

// AdjChanges returns how many paths of peers were put or removed one by one.
func AdjChanges() uint64 { return adjChanges.Load() }

// adjTable finds the paths of one family by prefix and path identifier. The
// zero value is empty.
type adjTable struct {
	v4     map[uint64]*Path
	v6     map[[17]byte]*Path
	others map[adjKey]*Path // other families, and paths with an identifier
	extra  int              // paths told of a prefix that has one already
}

// adjKey is the key of all but unicast prefixes without an identifier.
type adjKey struct {
	prefix string
	id     uint32
}

func otherKey(nlri bgp.AddrPrefixInterface) adjKey {
	return adjKey{tableKey(nlri), nlri.PathIdentifier()}
}

func (t *adjTable) get(nlri bgp.AddrPrefixInterface) *Path {
	if nlri.PathIdentifier() == 0 {
		switch n := nlri.(type) {
		case *bgp.IPAddrPrefix:
			return t.v4[key4(n)]
		case *bgp.IPv6AddrPrefix:
			return t.v6[key6(n)]
		}
	}
	return t.others[otherKey(nlri)]
}

func (t *adjTable) put(p *Path) {
	adjChanges.Add(1)
	nlri := p.GetNlri()
	if nlri.PathIdentifier() == 0 {
		switch n := nlri.(type) {
		case *bgp.IPAddrPrefix:
			if t.v4 == nil {
				t.v4 = make(map[uint64]*Path)
			}
			t.v4[key4(n)] = p
			return
		case *bgp.IPv6AddrPrefix:
			if t.v6 == nil {
				t.v6 = make(map[[17]byte]*Path)
			}
			t.v6[key6(n)] = p
			return
		}
	}
	if t.others == nil {
		t.others = make(map[adjKey]*Path)
	}
	t.others[otherKey(nlri)] = p
}

// remove forgets a path. A map that becomes empty is let go, see destinations.
func (t *adjTable) remove(nlri bgp.AddrPrefixInterface) {
	adjChanges.Add(1)
	if nlri.PathIdentifier() == 0 {
		switch n := nlri.(type) {
		case *bgp.IPAddrPrefix:
			if delete(t.v4, key4(n)); len(t.v4) == 0 {
				t.v4 = nil
			}
			return
		case *bgp.IPv6AddrPrefix:
			if delete(t.v6, key6(n)); len(t.v6) == 0 {
				t.v6 = nil
			}
			return
		}
	}
	if delete(t.others, otherKey(nlri)); len(t.others) == 0 {
		t.others = nil
	}
}

func (t *adjTable) len() int {
	return len(t.v4) + len(t.v6) + len(t.others) + t.extra
}

// all calls fn for every path, in no order; fn may put another in its place.
func (t *adjTable) all(fn func(*Path)) {
	for _, p := range t.v4 {
		fn(p)
	}
	for _, p := range t.v6 {
		fn(p)
	}
	for _, p := range t.others {
		fn(p)
	}
}
