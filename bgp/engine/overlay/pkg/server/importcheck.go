// Part of the patch hooks/import-check.

package server

import (
	"net/netip"
	"slices"

	"github.com/osrg/gobgp/v3/internal/pkg/table"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// importCheck is asked about every unicast path of a peer that import policy
// accepted: the next hops are the one announced and the one after policy.
// held says that the prefix is one node's alone, see table.Path.SetHeld.
type importCheck func(peer netip.Addr, prefix netip.Prefix, announced, hop netip.Addr) (ok, held bool)

// SetImportCheck sets the check, which runs on the server's goroutine: it must
// not block and must not call the server. It changes nothing that was imported
// before; see ImportAgain.
func (s *BgpServer) SetImportCheck(check func(peer netip.Addr, prefix netip.Prefix, announced, hop netip.Addr) (ok, held bool)) error {
	return s.mgmtOperation(func() error {
		s.importCheck = check
		return nil
	}, false)
}

// ImportAgain imports again, policy and check, what peers announce for the
// prefixes that match wants; match runs on the server's goroutine.
func (s *BgpServer) ImportAgain(match func(netip.Prefix) bool) error {
	return s.mgmtOperation(func() error {
		for _, peer := range s.neighborMap {
			var list []*table.Path
			for _, family := range []bgp.RouteFamily{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC} {
				peer.adjRibIn.Each(family, func(p *table.Path) {
					if prefix := prefixOfNlri(p.GetNlri()); !p.IsRejected() && prefix.IsValid() && match(prefix) {
						list = append(list, p)
					}
				})
			}
			if len(list) > 0 {
				s.againImported(peer, list)
			}
		}
		return nil
	}, true)
}

// checked returns what is imported of a path that policy made after of, nil
// for nothing, and notes it with the peer's paths.
func (s *BgpServer) checked(peer *peer, before, after *table.Path) *table.Path {
	if after != nil && s.importCheck != nil {
		if prefix := prefixOfNlri(before.GetNlri()); prefix.IsValid() {
			from := addrOf(before.GetSource().Address)
			announced := hopOf(from, before)
			hop := announced
			if after != before {
				hop = hopOf(from, after)
			}
			if ok, held := s.importCheck(from, prefix, announced, hop); ok {
				after = after.SetHeld(before, held)
			} else {
				after = nil
			}
		}
	}
	peer.adjRibIn.SetRefused(before, after == nil)
	return after
}

// hopOf returns the next hop that is used of a path: of a link-local peer its
// link-local one (RFC 2545 section 3).
func hopOf(peer netip.Addr, path *table.Path) netip.Addr {
	if peer.IsLinkLocalUnicast() {
		for _, a := range path.GetPathAttrs() {
			if mp, ok := a.(*bgp.PathAttributeMpReachNLRI); ok && mp.LinkLocalNexthop.IsLinkLocalUnicast() {
				return addrOf(mp.LinkLocalNexthop)
			}
		}
	}
	return addrOf(path.GetNexthop())
}

// EachContested calls fn for every held prefix that is announced with several
// next hops, with those of the paths known, the used one first. It runs on the
// server's goroutine: it must not block and must not call the server.
func (s *BgpServer) EachContested(fn func(prefix netip.Prefix, hops []netip.Addr)) error {
	return s.mgmtOperation(func() error {
		for _, family := range []bgp.RouteFamily{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC} {
			t, ok := s.globalRib.Tables[family]
			if !ok {
				continue
			}
			for dst := range t.Contested {
				var hops []netip.Addr
				for _, p := range dst.GetAllKnownPathList() {
					if hop := addrOf(p.GetNexthop()); p.IsHeld() && !slices.Contains(hops, hop) {
						hops = append(hops, hop)
					}
				}
				fn(prefixOfNlri(dst.GetNlri()), hops)
			}
		}
		return nil
	}, true)
}
