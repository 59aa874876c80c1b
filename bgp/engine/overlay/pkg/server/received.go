// Part of no patch: nothing of upstream's changes for it.
//
// Reason: policy refuses what others announce for this node's blocks, so that
// no best path tells of a second owner. ListPath builds a tree of the whole
// table for every prefix, and makes protobuf of everything in it.
// Test: TestRivals in bgp.
// Upstream: ListPath with TABLE_TYPE_ADJ_IN only.
// Status: not for upstream; v4 has an interface of its own for this.

package server

import (
	"net/netip"

	"github.com/osrg/gobgp/v3/internal/pkg/table"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// EachReceived calls fn with every unicast path that peers announce for a
// prefix which match wants, before import policy, and with the peer's address
// and AS. Both functions run on the server's goroutine: they must not block
// and must not call the server. The attributes must not be changed or kept.
func (s *BgpServer) EachReceived(match func(netip.Prefix) bool, fn func(peer netip.Addr, peerAS uint32, prefix netip.Prefix, attrs []bgp.PathAttributeInterface)) error {
	return s.mgmtOperation(func() error {
		for _, peer := range s.neighborMap {
			for _, family := range []bgp.RouteFamily{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC} {
				peer.adjRibIn.Each(family, func(p *table.Path) {
					if prefix := prefixOfNlri(p.GetNlri()); prefix.IsValid() && match(prefix) {
						fn(addrOf(p.GetSource().Address), p.GetSource().AS, prefix, p.GetPathAttrs())
					}
				})
			}
		}
		return nil
	}, true)
}

// Received identifies what peers announce: while both numbers are the same, so
// are all paths of EachReceived. changes grows with every path that comes or
// goes; paths is how many there are, because those of a session that ends go
// all at once.
func (s *BgpServer) Received() (changes uint64, paths int, err error) {
	err = s.mgmtOperation(func() error {
		changes = table.AdjChanges()
		for _, peer := range s.neighborMap {
			paths += peer.adjRibIn.Count([]bgp.RouteFamily{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC})
		}
		return nil
	}, true)
	return changes, paths, err
}
