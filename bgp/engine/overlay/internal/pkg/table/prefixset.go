// Part of the patch memory/once-an-update.

package table

import (
	"encoding/binary"
	"math/bits"
	"net"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// shortSet is the number of IPv4 prefixes up to which a set is searched one by
// one: the tree makes a key and two networks of every prefix it is asked for.
const shortSet = 16

// setPrefix4 is one IPv4 prefix of a short set.
type setPrefix4 struct {
	addr, mask uint32
	rules      []*Prefix
}

// match returns the rules of the longest prefix in the set that covers nlri,
// and the length of nlri; false if nlri is no prefix.
func (s *PrefixSet) match(nlri bgp.AddrPrefixInterface) ([]*Prefix, uint8, bool) {
	if n, ok := nlri.(*bgp.IPAddrPrefix); ok && s.tree.Size() <= shortSet {
		if a := n.Prefix.To4(); a != nil && n.Length <= 32 {
			return s.match4(binary.BigEndian.Uint32(a), n.Length), n.Length, true
		}
	}
	r := nlriToIPNet(nlri)
	if r == nil {
		return nil, 0, false
	}
	ones, _ := r.Mask.Size()
	if _, ps, _ := s.tree.Match(r); ps != nil {
		return ps.([]*Prefix), uint8(ones), true
	}
	return nil, uint8(ones), true
}

func (s *PrefixSet) match4(addr uint32, length uint8) (found []*Prefix) {
	best := -1
	for _, p := range s.list4() {
		if ones := bits.OnesCount32(p.mask); addr&p.mask == p.addr && ones <= int(length) && ones > best {
			best, found = ones, p.rules
		}
	}
	return found
}

// list4 returns the set as a list, made when it is first asked for: a set does
// not change under the lock that conditions are evaluated under, and what
// changes it forgets the list.
func (s *PrefixSet) list4() []setPrefix4 {
	if l := s.short.Load(); l != nil {
		return *l
	}
	list := []setPrefix4{}
	s.tree.Walk(nil, func(n *net.IPNet, v interface{}) bool {
		if a := n.IP.To4(); a != nil && len(n.Mask) == net.IPv4len {
			list = append(list, setPrefix4{binary.BigEndian.Uint32(a), binary.BigEndian.Uint32(n.Mask), v.([]*Prefix)})
		}
		return true
	})
	s.short.Store(&list)
	return list
}
