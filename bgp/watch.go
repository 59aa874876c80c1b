package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"google.golang.org/protobuf/types/known/anypb"

	"onlink/rib"
)

// communityLLGRStale is 65535:6 (RFC 9494).
const communityLLGRStale = 0xffff0006

// enginePath is one path of a prefix's multipath set, as a patched engine
// tells it: an alias, because the engine names the type by its fields.
type enginePath = struct {
	ID          uint32
	Peer        netip.Addr // the zero Addr for our own
	PeerAS      uint32
	NextHop     netip.Addr
	LinkLocal   netip.Addr
	Communities []uint32
	Stale       bool
}

// bestWatcher is what bgp/engine adds to the engine: best paths without a
// detour over protobuf. Both functions run on the engine's main goroutine.
type bestWatcher interface {
	WatchBestSets(set func(prefix netip.Prefix, paths []enginePath), flush func()) (stop func())
}

// watchLocked subscribes to what the engine has to say. The engine calls back
// in order and queues without bound: nothing below may block.
func (s *Speaker) watchLocked(ctx context.Context) error {
	filter := func(t api.WatchEventRequest_Table_Filter_Type) *api.WatchEventRequest_Table_Filter {
		return &api.WatchEventRequest_Table_Filter{Type: t, Init: true}
	}
	filters := []*api.WatchEventRequest_Table_Filter{filter(api.WatchEventRequest_Table_Filter_EOR)}
	w, native := any(s.engine).(bestWatcher)
	if !native {
		filters = append(filters, filter(api.WatchEventRequest_Table_Filter_BEST))
	}
	watch, cancel := context.WithCancel(ctx)
	err := s.engine.WatchEvent(watch, &api.WatchEventRequest{
		Peer: &api.WatchEventRequest_Peer{}, Table: &api.WatchEventRequest_Table{Filters: filters},
	}, func(ev *api.WatchEventResponse) { s.event(watch, ev) })
	if err != nil {
		cancel()
		return fmt.Errorf("watch bgp events: %w", err)
	}
	s.stopWatch = cancel
	if native {
		stop := w.WatchBestSets(s.bestSet, s.feed.signal)
		s.stopWatch = func() { cancel(); stop() }
	}
	return nil
}

// bestSet takes the multipath set of one prefix.
func (s *Speaker) bestSet(prefix netip.Prefix, paths []enginePath) {
	var few [4]member // enough for most sets
	set := few[:0]
	for _, p := range paths {
		if !p.Peer.IsValid() || !p.NextHop.IsValid() {
			continue
		}
		peer, hop := s.scope(p.Peer, p.NextHop, p.LinkLocal)
		set = append(set, member{stale: slices.Contains(p.Communities, communityLLGRStale), path: rib.Path{
			NextHop: hop, Peer: peer, EBGP: p.PeerAS != s.cfg.ASN,
		}})
	}
	s.feed.replace(prefix, set)
}

// event takes one event of the engine.
func (s *Speaker) event(ctx context.Context, ev *api.WatchEventResponse) {
	if p := ev.GetPeer(); p != nil {
		s.peerEvent(ctx, p)
		return
	}
	paths := ev.GetTable().GetPaths()
	if len(paths) == 1 && paths[0].GetNlri() == nil { // the form of an End-of-RIB marker
		if addr, err := netip.ParseAddr(paths[0].GetNeighborIp()); err == nil {
			addr, _ = s.scope(addr.Unmap(), netip.Addr{}, netip.Addr{})
			s.ledger.endOfRIB(addr, familyOf(apiutil.ToRouteFamily(paths[0].GetFamily())))
		}
		return
	}
	event := make([]best, 0, len(paths))
	for _, p := range paths {
		b, err := bestOf(p, s.cfg.ASN)
		if err != nil {
			s.log.Warn("best path not understood", "path", p.String(), "error", err)
			continue
		}
		path := &b.member.path
		path.Peer, path.NextHop = s.scope(path.Peer, path.NextHop, netip.Addr{})
		event = append(event, b)
	}
	s.feed.fold(event)
}

// bestOf translates one path of an event. A path without a neighbour is our own.
func bestOf(p *api.Path, localAS uint32) (best, error) {
	nlri, err := apiutil.GetNativeNlri(p)
	if err != nil {
		return best{}, fmt.Errorf("decode prefix: %w", err)
	}
	prefix, ok := prefixOf(nlri)
	if !ok {
		return best{}, fmt.Errorf("%s is no unicast prefix", nlri)
	}
	b := best{prefix: prefix, absent: true}
	peer, err := netip.ParseAddr(p.GetNeighborIp())
	if p.GetIsWithdraw() || err != nil {
		return b, nil //nolint:nilerr // our own paths have no neighbour to parse
	}
	attrs, err := apiutil.GetNativePathAttributes(p)
	if err != nil {
		return best{}, fmt.Errorf("decode attributes: %w", err)
	}
	hop := nextHopOf(attrs)
	b.absent = !hop.IsValid()
	b.member = member{stale: isLLGRStale(attrs), path: rib.Path{
		NextHop: hop, Peer: peer.Unmap(), EBGP: p.GetSourceAsn() != localAS,
	}}
	return b, nil
}

// peerEvent takes the change of a session's state. The event does not say
// what the session carries, so the engine is asked.
func (s *Speaker) peerEvent(ctx context.Context, ev *api.WatchEventResponse_PeerEvent) {
	addr, err := netip.ParseAddr(ev.GetPeer().GetState().GetNeighborAddress())
	if err != nil || ev.GetType() == api.WatchEventResponse_PeerEvent_END_OF_INIT {
		return
	}
	st := ev.GetPeer().GetState()
	addr, _ = s.scope(addr.Unmap(), netip.Addr{}, netip.Addr{})
	change := peerChange{addr: addr, state: stateName(st.GetSessionState()), limited: st.GetAdminState() == api.PeerState_PFX_CT}
	if change.state == established {
		change.carries = s.carries(ctx, addr.String())
	}
	s.ledger.peerChange(change)
	if other, why := s.ledger.twins(addr); why != "" && change.state == established {
		s.log.Warn("one router ID twice", "peer", addr, "other", other, "why", why)
	}
}

// carries asks the engine what the session to addr was opened with.
func (s *Speaker) carries(ctx context.Context, addr string) carried {
	var c carried
	err := s.engine.ListPeer(ctx, &api.ListPeerRequest{Address: addr}, func(p *api.Peer) {
		c = carriedBy(p.GetState().GetLocalCap(), p.GetState().GetRemoteCap())
		c.id, _ = netip.ParseAddr(p.GetState().GetRouterId())
		c.internal = p.GetState().GetPeerAsn() == s.cfg.ASN
	})
	if err != nil {
		s.log.Warn("look-up of a peer did not succeed", "peer", addr, "error", err)
	}
	return c
}

// carried is what the two OPENs of a session agreed on.
type carried struct {
	families []Family
	usesEOR  bool // graceful restart: End-of-RIB will come
	id       netip.Addr
	internal bool // the peer is of our AS
}

func carriedBy(local, remote []*anypb.Any) carried {
	ours, _ := capabilities(local)
	theirs, usesEOR := capabilities(remote)
	if len(theirs) == 0 {
		theirs = []Family{IPv4} // RFC 4760 section 8: no capability means IPv4 unicast
	}
	c := carried{usesEOR: usesEOR}
	for _, f := range ours {
		if slices.Contains(theirs, f) {
			c.families = append(c.families, f)
		}
	}
	return c
}

// capabilities returns the families of an OPEN's capabilities, and whether
// graceful restart is among them. What it does not know says nothing to us.
func capabilities(list []*anypb.Any) (families []Family, gracefulRestart bool) {
	for _, a := range list {
		m, err := a.UnmarshalNew()
		if err != nil {
			continue
		}
		switch m := m.(type) {
		case *api.MultiProtocolCapability:
			if f := familyOf(apiutil.ToRouteFamily(m.GetFamily())); f != 0 {
				families = append(families, f)
			}
		case *api.GracefulRestartCapability:
			gracefulRestart = true
		}
	}
	return families, gracefulRestart
}

// prefixOf returns the prefix of a unicast NLRI.
func prefixOf(n bgp.AddrPrefixInterface) (netip.Prefix, bool) {
	var ip *bgp.IPAddrPrefixDefault
	switch n := n.(type) {
	case *bgp.IPAddrPrefix:
		ip = &n.IPAddrPrefixDefault
	case *bgp.IPv6AddrPrefix:
		ip = &n.IPAddrPrefixDefault
	default:
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(ip.Prefix)
	if !ok {
		return netip.Prefix{}, false
	}
	if _, v4 := n.(*bgp.IPAddrPrefix); v4 {
		addr = addr.Unmap()
	}
	p, err := addr.Prefix(int(ip.Length))
	return p, err == nil
}

// nextHopOf returns the next hop among a path's attributes.
func nextHopOf(attrs []bgp.PathAttributeInterface) netip.Addr {
	for _, a := range attrs {
		var hop netip.Addr
		switch a := a.(type) {
		case *bgp.PathAttributeNextHop:
			hop, _ = netip.AddrFromSlice(a.Value)
		case *bgp.PathAttributeMpReachNLRI:
			hop, _ = netip.AddrFromSlice(a.Nexthop)
		default:
			continue
		}
		return hop.Unmap() // not valid when the slice was neither 4 nor 16 bytes
	}
	return netip.Addr{}
}

func isLLGRStale(attrs []bgp.PathAttributeInterface) bool {
	for _, a := range attrs {
		if c, ok := a.(*bgp.PathAttributeCommunities); ok {
			return slices.Contains(c.Value, communityLLGRStale)
		}
	}
	return false
}
