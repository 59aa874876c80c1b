// Part of no patch: nothing of upstream's changes for it.
//
// Reason: ListPath makes a tree of a whole table, and protobuf of everything in
// it, before it returns the first route. Here a caller lists the prefixes, and
// then takes the paths of a few of them at a time: the server's goroutine is
// never held for long, and no copy of the table is made.
// Test: TestPeerRoutes, TestAdvertised, TestRefresh and TestUpdateGroup in bgp.
// Upstream: ListPath with TABLE_TYPE_ADJ_IN and TABLE_TYPE_ADJ_OUT only; a
// ROUTE-REFRESH is answered and never sent.
// Status: not for upstream; v4 has an interface of its own for tables.

package server

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"time"

	"github.com/osrg/gobgp/v3/internal/pkg/table"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// receivedPath is a path as a peer announces it. It is an alias of a struct
// without a name so that a program can ask for the methods by an interface; the
// same holds for those below.
type receivedPath = struct {
	Peer   netip.Addr
	PeerAS uint32
	Prefix netip.Prefix
	Attrs  []bgp.PathAttributeInterface
	At     time.Time // when it came
	// Loop: it is not used because it has our AS, ORIGINATOR_ID or CLUSTER_ID.
	// Refused: import policy or the import check refused it.
	Loop, Refused, Stale bool
}

// advertisedPath is the best path to a prefix, and what becomes of it for a peer.
type advertisedPath = struct {
	Prefix   netip.Prefix
	Source   netip.Addr // the peer that announced the best path; invalid: it is our own
	SourceAS uint32
	Best     []bgp.PathAttributeInterface
	Sent     []bgp.PathAttributeInterface // as the peer is told; nil: it is not
	At       time.Time                    // when the best path came
	// Pending: the peer has not been told yet. Withheld: why no message can hold it.
	Pending  bool
	Withheld string
}

// updateGroup is a peer's place in an update group.
type updateGroup = struct {
	Family   bgp.RouteFamily
	Members  []netip.Addr // of the group, the peer among them
	Prefixes int          // in the group's log that are announced
	Behind   int          // changes that the peer has not been told yet
	Withheld int          // prefixes that no message to the members can hold
}

// peerAt returns the peer with an address.
func (s *BgpServer) peerAt(a netip.Addr) (*peer, error) {
	if p, ok := s.neighborMap[a.String()]; ok {
		return p, nil
	}
	return nil, fmt.Errorf("no session with %s", a)
}

var unicast = []bgp.RouteFamily{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC}

// nlriOfPrefix returns the NLRI of a unicast prefix, and its family.
func nlriOfPrefix(p netip.Prefix) (bgp.AddrPrefixInterface, bgp.RouteFamily) {
	if p.Addr().Is4() {
		return bgp.NewIPAddrPrefix(uint8(p.Bits()), p.Addr().String()), bgp.RF_IPv4_UC
	}
	return bgp.NewIPv6AddrPrefix(uint8(p.Bits()), p.Addr().String()), bgp.RF_IPv6_UC
}

// ReceivedPrefixes returns the prefixes that a peer announces and that match
// wants, in no order.
func (s *BgpServer) ReceivedPrefixes(from netip.Addr, match func(netip.Prefix) bool) (list []netip.Prefix, err error) {
	err = s.mgmtOperation(func() error {
		peer, err := s.peerAt(from)
		if err != nil {
			return err
		}
		for _, family := range unicast {
			peer.adjRibIn.Each(family, func(p *table.Path) {
				if prefix := prefixOfNlri(p.GetNlri()); prefix.IsValid() && match(prefix) {
					list = append(list, prefix)
				}
			})
		}
		return nil
	}, true)
	return list, err
}

// EachReceivedOf calls fn with a peer's paths to some prefixes, those of all peers
// for an invalid address. fn runs on the server's goroutine: it must not block, must
// not call the server, and must not keep the attributes.
func (s *BgpServer) EachReceivedOf(from netip.Addr, prefixes []netip.Prefix, fn func(receivedPath)) error {
	return s.mgmtOperation(func() error {
		var list []*peer
		if from.IsValid() {
			n, err := s.peerAt(from)
			if err != nil {
				return err
			}
			list = append(list, n)
		} else {
			for _, n := range s.neighborMap {
				list = append(list, n)
			}
		}
		for _, prefix := range prefixes {
			nlri, family := nlriOfPrefix(prefix)
			for _, n := range list {
				if p := n.adjRibIn.Find(family, nlri); p != nil {
					fn(receivedPath{
						Peer: n.addr(), PeerAS: p.GetSource().AS, Prefix: prefix, Attrs: p.GetPathAttrs(), At: p.GetTimestamp(),
						Loop: p.IsRejected(), Refused: p.IsRefused(), Stale: p.IsStale(),
					})
				}
			}
		}
		return nil
	}, true)
}

// BestPrefixes returns the prefixes that have a path and that match wants, in no
// order.
func (s *BgpServer) BestPrefixes(match func(netip.Prefix) bool) (list []netip.Prefix, err error) {
	err = s.mgmtOperation(func() error {
		for _, family := range unicast {
			t, ok := s.globalRib.Tables[family]
			if !ok {
				continue
			}
			for dst := range t.GetDestinations() {
				if prefix := prefixOfNlri(dst.GetNlri()); prefix.IsValid() && match(prefix) {
					list = append(list, prefix)
				}
			}
		}
		return nil
	}, true)
	return list, err
}

// EachAdvertised calls fn with what a peer is told of some prefixes. The rules of fn
// are those of EachReceivedOf.
func (s *BgpServer) EachAdvertised(to netip.Addr, prefixes []netip.Prefix, fn func(advertisedPath)) error {
	return s.mgmtOperation(func() error {
		peer, err := s.peerAt(to)
		if err != nil {
			return err
		}
		up := peer.isUp()
		for _, prefix := range prefixes {
			nlri, family := nlriOfPrefix(prefix)
			t, ok := s.globalRib.Tables[family]
			if !ok {
				continue
			}
			dst := t.GetDestination(nlri)
			if dst == nil {
				continue
			}
			best := dst.GetBestPath(table.GLOBAL_RIB_NAME, 0)
			if best == nil {
				continue
			}
			a := advertisedPath{Prefix: prefix, SourceAS: best.GetSource().AS, Best: best.GetPathAttrs(), At: best.GetTimestamp()}
			if !best.IsLocal() {
				a.Source = addrOf(best.GetSource().Address)
			}
			if up {
				s.tellAdvertised(peer, family, best, &a)
			}
			fn(a)
		}
		return nil
	}, true)
}

// tellAdvertised fills in what a peer is told of a best path.
func (s *BgpServer) tellAdvertised(peer *peer, family bgp.RouteFamily, best *table.Path, a *advertisedPath) {
	p := s.exportpath(peer, best, nil)
	if p == nil || p.IsWithdraw {
		return
	}
	m := peer.fsm.out.member(family)
	if m == nil {
		if a.Withheld = faultFor(peer, p); a.Withheld == "" {
			a.Sent = p.GetPathAttrs()
		}
		return
	}
	g := m.group.Load()
	key, _ := outPrefixOf(best.GetNlri())
	if w, ok := g.withheld[key]; ok {
		a.Withheld = w.why
		return
	}
	g.mu.Lock() // the peer's sender moves its place under the read lock
	defer g.mu.Unlock()
	e := g.entries[key]
	if e != nil && e.source != 0 && e.source == m.id {
		return // it is never told what it said itself
	}
	a.Sent, a.Pending = p.GetPathAttrs(), e == nil || e.attrs == nil || e.seq > m.place
}

// UpdateGroups returns a peer's places in update groups, one per family.
func (s *BgpServer) UpdateGroups(of netip.Addr) (list []updateGroup, err error) {
	err = s.mgmtOperation(func() error {
		peer, err := s.peerAt(of)
		if err != nil {
			return err
		}
		for _, family := range unicast {
			if m := peer.fsm.out.member(family); m != nil {
				list = append(list, m.view())
			}
		}
		return nil
	}, true)
	return list, err
}

func (m *outMember) view() updateGroup {
	g := m.group.Load()
	v := updateGroup{Family: g.key.family, Withheld: len(g.withheld)}
	for _, o := range g.members {
		v.Members = append(v.Members, o.peer.addr())
	}
	slices.SortFunc(v.Members, netip.Addr.Compare)
	g.mu.Lock() // the peer's sender moves its place under the read lock
	defer g.mu.Unlock()
	v.Prefixes = len(g.entries) - g.withdrawn
	first := sort.Search(len(g.log), func(i int) bool { return g.log[i].seq > m.place })
	for _, slot := range g.log[first:] {
		if _, due := m.due(slot); due {
			v.Behind++
		}
	}
	return v
}

// RequestRefresh asks a peer to announce its routes again, for every family of the
// session (RFC 2918). It returns none when the peer lacks the capability.
func (s *BgpServer) RequestRefresh(from netip.Addr) (families []bgp.RouteFamily, err error) {
	err = s.mgmtOperation(func() error {
		peer, err := s.peerAt(from)
		if err != nil {
			return err
		}
		if !peer.isUp() {
			return fmt.Errorf("the session with %s is not established", from)
		}
		peer.fsm.lock.RLock()
		_, able := peer.fsm.capMap[bgp.BGP_CAP_ROUTE_REFRESH]
		peer.fsm.lock.RUnlock()
		if !able {
			return nil
		}
		for _, family := range peer.negotiatedRFList() {
			afi, safi := bgp.RouteFamilyToAfiSafi(family)
			sendfsmOutgoingMsg(peer, nil, bgp.NewBGPRouteRefreshMessage(afi, 0, safi), false)
			families = append(families, family)
		}
		return nil
	}, true)
	return families, err
}
