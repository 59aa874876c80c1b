// Part of no patch: nothing of upstream's changes for it.
//
// Reason: the export policy decides which peers receive a prefix of this node. When
// that alone changes, the path is the same, and AddPath of the same path sends
// nothing; a soft reset sends the whole table again to the peer.
// Test: TestServiceOrigins, TestAggregateComesAndGoes in bgp.
// Upstream: soft reset only.
// Status: not for upstream: it is about update groups.

package server

import (
	"net/netip"

	"github.com/osrg/gobgp/v3/internal/pkg/table"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// ExportAgain applies the export policy again to the best paths of the unicast
// prefixes that match, for all peers in update groups, and sends what differs
// from what they were told. match runs on the server's goroutine.
func (s *BgpServer) ExportAgain(match func(netip.Prefix) bool) error {
	return s.mgmtOperation(func() error {
		for _, f := range []bgp.RouteFamily{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC} {
			if len(s.outGroups[f]) == 0 {
				continue
			}
			var again []*table.Path
			for _, p := range s.globalRib.GetBestPathList(table.GLOBAL_RIB_NAME, 0, []bgp.RouteFamily{f}) {
				if prefix := prefixOfNlri(p.GetNlri()); prefix.IsValid() && match(prefix) {
					again = append(again, p)
				}
			}
			s.updateOutGroups(f, again)
		}
		return nil
	}, true)
}
