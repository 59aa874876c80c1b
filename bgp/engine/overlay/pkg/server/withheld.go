// Part of the patch correct/withheld.

package server

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/osrg/gobgp/v3/internal/pkg/table"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// A route that no message to a peer can hold is withheld from that peer: it is
// withdrawn if the peer had it, and told when it has changed into one that fits.
// Attributes grow on their way: CLUSTER_LIST and ORIGINATOR_ID of a reflector,
// AS4_PATH for a peer with AS numbers of two octets, what the export policy
// adds. So the sender of a good message must not be able to end the sessions of
// those it is reflected to.

// outSession is what a session's OPENs say about the form of UPDATEs.
type outSession struct {
	twoOctetAS bool // RFC 6793
	hop6       bool // IPv4 routes may have IPv6 next hops (RFC 8950)
}

func (fsm *fsm) outSession() outSession {
	fsm.lock.RLock()
	defer fsm.lock.RUnlock()
	s := outSession{twoOctetAS: fsm.twoByteAsTrans}
	for _, c := range fsm.capMap[bgp.BGP_CAP_EXTENDED_NEXTHOP] {
		c, ok := c.(*bgp.CapExtendedNexthop)
		if !ok {
			continue
		}
		for _, t := range c.Tuples {
			s.hop6 = s.hop6 || t.NLRIAFI == bgp.AFI_IP && t.NLRISAFI == uint16(bgp.SAFI_UNICAST) && t.NexthopAFI == bgp.AFI_IP6
		}
	}
	return s
}

// hopFault says why a session cannot carry a next hop; "" if it can.
func (s outSession) hopFault(f bgp.RouteFamily, hop net.IP) string {
	if f == bgp.RF_IPv4_UC && hop.To4() == nil && !s.hop6 {
		return fmt.Sprintf("its next hop %s is an IPv6 address, and the peer takes none for IPv4 (RFC 8950)", hop)
	}
	return ""
}

// attrsFor returns a path's attributes in the form of the session.
func (s outSession) attrsFor(path *table.Path) []bgp.PathAttributeInterface {
	attrs := path.GetPathAttrs()
	if !s.twoOctetAS {
		return attrs
	}
	u := &bgp.BGPUpdate{PathAttributes: attrs}
	table.UpdatePathAttrs2ByteAs(u)
	table.UpdatePathAggregator2ByteAs(u)
	return u.PathAttributes
}

func tooLong(n int) string {
	return fmt.Sprintf("its UPDATE would have %d bytes, a message has %d at most", n, bgp.BGP_MAX_MESSAGE_LENGTH)
}

// encodeFor filters and encodes a changed best path for the members of a group.
// Without attributes the path is not told, and why says whether it is withheld.
// A panic is a fault of this path alone: others stand behind it in the same
// UPDATE, and its sender did nothing wrong.
func (s *BgpServer) encodeFor(g *outGroup, m *outMember, path *table.Path, bits uint8) (attrs *outAttrs, why string) {
	defer func() {
		if r := recover(); r != nil {
			tellSession(s.logger, panicEvent(r))
			attrs, why = nil, fmt.Sprintf("panic: %v", r)
		}
	}()
	p := s.exportpath(m.peer, path, nil)
	if p == nil || p.IsWithdraw {
		return nil, ""
	}
	if attrs, why = encodeAttrs(p, g.key.family, g.key.session); why != "" {
		return nil, why
	}
	if n := updateOverhead(attrs) + 1 + int(bits+7)/8; n > bgp.BGP_MAX_MESSAGE_LENGTH {
		return nil, tooLong(n)
	}
	return attrs, ""
}

// outWithheld is a route that the members of a group are not told.
type outWithheld struct {
	why    string
	source uint32     // see outEntry
	from   netip.Addr // the address of the peer it is from; invalid: it is ours
}

// withhold notes that a prefix is withheld, or with an empty why that it is not.
func (s *BgpServer) withhold(g *outGroup, prefix outPrefix, path *table.Path, why string) {
	if why == "" {
		if len(g.withheld) > 0 {
			delete(g.withheld, prefix)
		}
		return
	}
	w := outWithheld{why: why, source: idOf(path.GetSource().ID), from: addrOf(path.GetSource().Address)}
	if g.withheld[prefix] == w {
		return
	}
	g.withheld[prefix] = w
	for _, m := range g.members {
		if m.entered {
			s.nameWithheld(m, prefix, w)
		}
	}
}

// enter names to the log what a new member is not told.
func (s *BgpServer) enter(m *outMember) {
	m.entered = true
	for prefix, w := range m.group.Load().withheld {
		s.nameWithheld(m, prefix, w)
	}
}

func (s *BgpServer) nameWithheld(m *outMember, prefix outPrefix, w outWithheld) {
	if w.source == 0 || w.source != m.id {
		tellWithheld(m.peer, prefix.of(m.group.Load().key.family), w)
	}
}

func tellWithheld(peer *peer, prefix netip.Prefix, w outWithheld) {
	peer.fsm.tell(sessionEvent{Kind: "withheld", Prefix: prefix, Source: w.from, Err: errors.New(w.why)})
}

// of returns the prefix as one of a family.
func (p outPrefix) of(f bgp.RouteFamily) netip.Prefix {
	a := netip.AddrFrom16(p.addr)
	if f == bgp.RF_IPv4_UC {
		a = netip.AddrFrom4([4]byte(p.addr[:4]))
	}
	return netip.PrefixFrom(a, int(p.bits))
}

// fitting is for what no group tells: a withdrawal of path, which export made of
// best, if no message to the peer can hold it, or else path.
func (s *BgpServer) fitting(peer *peer, best, path *table.Path) *table.Path {
	why := ""
	if path != nil && !path.IsWithdraw {
		why = faultFor(peer, path)
	}
	if why == "" {
		if len(peer.withheld) > 0 && best != nil {
			delete(peer.withheld, best.GetLocalKey())
		}
		return path
	}
	if peer.fsm.out.member(path.GetRouteFamily()) != nil {
		return path.Clone(true) // asked for by who looks at it; the group has noted it
	}
	key := path.GetLocalKey()
	w := outWithheld{why: why, source: idOf(path.GetSource().ID), from: addrOf(path.GetSource().Address)}
	if peer.withheld[key] != w {
		if peer.withheld == nil {
			peer.withheld = make(map[table.PathLocalKey]outWithheld)
		}
		peer.withheld[key] = w
		tellWithheld(peer, prefixOfNlri(path.GetNlri()), w)
	}
	return path.Clone(true)
}

// surelyFits is the length of attributes that fit whatever becomes of them:
// AS4_PATH and AS4_AGGREGATOR are no longer than what they are made of.
const surelyFits = bgp.BGP_MAX_MESSAGE_LENGTH/2 - 256

// faultFor says why no message to a peer can hold a path; "" if one can.
func faultFor(peer *peer, path *table.Path) (why string) {
	defer func() {
		if r := recover(); r != nil {
			why = fmt.Sprintf("panic: %v", r)
		}
	}()
	session := peer.fsm.outSession()
	if fault := session.hopFault(path.GetRouteFamily(), path.GetNexthop()); fault != "" {
		return fault
	}
	size := 0
	for _, a := range path.GetPathAttrs() {
		size += a.Len()
	}
	if size < surelyFits {
		return ""
	}
	peer.fsm.lock.RLock()
	options := peer.fsm.marshallingOptions
	peer.fsm.lock.RUnlock()
	for _, m := range table.CreateUpdateMsgFromPaths([]*table.Path{path}, options) {
		n, err := updateLen(m, session, options)
		if err != nil {
			return err.Error()
		}
		if n > bgp.BGP_MAX_MESSAGE_LENGTH {
			return tooLong(n)
		}
	}
	return ""
}

// updateLen is the length of an UPDATE in the form of a session. It changes
// nothing of the message.
func updateLen(m *bgp.BGPMessage, session outSession, options *bgp.MarshallingOption) (int, error) {
	u := *m.Body.(*bgp.BGPUpdate)
	if session.twoOctetAS {
		table.UpdatePathAttrs2ByteAs(&u)
		table.UpdatePathAggregator2ByteAs(&u)
	}
	b, err := u.Serialize(options)
	return bgp.BGP_HEADER_LENGTH + len(b), err
}

// parts splits an UPDATE which, in the form of the session, is longer than a
// message: prefixes were packed before its attributes grew.
func parts(m *bgp.BGPMessage, session outSession, options *bgp.MarshallingOption) []*bgp.BGPMessage {
	u, ok := m.Body.(*bgp.BGPUpdate)
	if !ok || !session.twoOctetAS || len(u.NLRI) < 2 {
		return []*bgp.BGPMessage{m}
	}
	if n, err := updateLen(m, session, options); err == nil && n <= bgp.BGP_MAX_MESSAGE_LENGTH {
		return []*bgp.BGPMessage{m}
	}
	half := len(u.NLRI) / 2
	first := bgp.NewBGPUpdateMessage(u.WithdrawnRoutes, u.PathAttributes, u.NLRI[:half])
	second := bgp.NewBGPUpdateMessage(nil, u.PathAttributes, u.NLRI[half:])
	return slices.Concat(parts(first, session, options), parts(second, session, options))
}

// EachWithheld calls fn with every route that a peer is not told because no
// message to it can hold it, and why. fn runs on the server's goroutine: it must
// not block and must not call the server.
func (s *BgpServer) EachWithheld(fn func(peer netip.Addr, prefix netip.Prefix, why string)) error {
	return s.mgmtOperation(func() error {
		for _, groups := range s.outGroups {
			for _, g := range groups {
				for prefix, w := range g.withheld {
					for _, m := range g.members {
						if w.source == 0 || w.source != m.id {
							fn(m.peer.addr(), prefix.of(g.key.family), w.why)
						}
					}
				}
			}
		}
		for _, peer := range s.neighborMap {
			for key, w := range peer.withheld {
				if prefix, err := netip.ParsePrefix(key.Prefix); err == nil {
					fn(peer.addr(), prefix, w.why)
				}
			}
		}
		return nil
	}, false)
}

// addr is the peer's address, with the device of a link-local one.
func (peer *peer) addr() netip.Addr {
	a, _ := netip.ParseAddr(peer.ID())
	return a.Unmap()
}
