package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/bgp"
	onlinkv1 "onlink/proto/v1"
)

const (
	// adminHolder names the operator's holds of sessions.
	adminHolder = "admin"
	// maxReason is the longest reason that a CEASE carries (RFC 9003).
	maxReason = 128
	// maxListings bounds the readers of ListPeerRoutes, and maxListingsEach those of one
	// caller: each keeps the list of the prefixes, 32 bytes a route.
	maxListings     = 4
	maxListingsEach = 2
	// routesAtOnce is the number of routes in one message.
	routesAtOnce = 128
	// maxPathPrefixes bounds the prefixes with paths in one answer.
	maxPathPrefixes = 64
)

// GetPeer implements onlinkv1.AdminServer.
func (s *Server) GetPeer(ctx context.Context, r *onlinkv1.GetPeerRequest) (*onlinkv1.PeerDetail, error) {
	p, err := s.findPeer(r.GetPeer())
	if err != nil {
		return nil, err
	}
	d, err := s.Sessions.Detail(ctx, p.Address)
	if err != nil {
		return nil, sessionError(err)
	}
	return detailToWire(&d, s.peer(d.PeerStatus)), nil
}

// ListPeerRoutes implements onlinkv1.AdminServer.
func (s *Server) ListPeerRoutes(r *onlinkv1.ListPeerRoutesRequest, to grpc.ServerStreamingServer[onlinkv1.PeerRoutes]) error {
	end, err := s.listings.begin(visitorOf(to.Context()))
	if err != nil {
		return err
	}
	defer end()
	return s.sendRoutes(to.Context(), r, to.Send)
}

// sendRoutes sends the routes of a request, some at a time.
func (s *Server) sendRoutes(ctx context.Context, r *onlinkv1.ListPeerRoutesRequest, send func(*onlinkv1.PeerRoutes) error) error {
	p, err := s.findPeer(r.GetPeer())
	if err != nil {
		return err
	}
	set, known := routeSets[r.GetSet()]
	if !known {
		return status.Error(codes.InvalidArgument, "set is missing: use received, accepted, rejected or advertised")
	}
	var within netip.Prefix
	if r.GetPrefix() != "" {
		if within, err = parsePrefixOrAddr(r.GetPrefix()); err != nil {
			return status.Errorf(codes.InvalidArgument, "prefix: %v", err)
		}
	}
	batch := &onlinkv1.PeerRoutes{}
	err = s.Sessions.Routes(ctx, p.Address, set, within, func(one *bgp.PeerRoute) error {
		batch.Routes = append(batch.Routes, peerRouteToWire(one))
		if len(batch.Routes) < routesAtOnce {
			return nil
		}
		full := batch
		batch = &onlinkv1.PeerRoutes{}
		return send(full)
	})
	if err == nil && len(batch.Routes) > 0 {
		err = send(batch)
	}
	if err != nil {
		return sessionError(err)
	}
	return nil
}

// routeSets are the sets of routes of a request.
var routeSets = map[onlinkv1.RouteSet]bgp.RouteSet{
	onlinkv1.RouteSet_ROUTE_SET_RECEIVED:   bgp.Received,
	onlinkv1.RouteSet_ROUTE_SET_ACCEPTED:   bgp.Accepted,
	onlinkv1.RouteSet_ROUTE_SET_REJECTED:   bgp.Rejected,
	onlinkv1.RouteSet_ROUTE_SET_ADVERTISED: bgp.Advertised,
}

// addCandidates adds all paths to the prefixes that cover want or are inside it.
func (s *Server) addCandidates(ctx context.Context, want string, rep *onlinkv1.ListRoutesReply) error {
	within, err := parsePrefixOrAddr(want)
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "prefix: %v", err)
	}
	prefixes, err := s.Sessions.Prefixes(ctx, within)
	if err != nil {
		return sessionError(err)
	}
	names := map[netip.Addr]string{}
	for _, p := range s.Speaker.Peers() {
		names[p.Address] = p.Name
	}
	shown := prefixes[:min(len(prefixes), maxPathPrefixes)]
	rep.CandidatesLeftOut = number(len(prefixes) - len(shown))
	for _, prefix := range shown {
		paths, err := s.Sessions.Candidates(ctx, prefix)
		if err != nil {
			return sessionError(err)
		}
		one := &onlinkv1.PrefixPaths{Prefix: prefix.String()}
		for i := range paths {
			w := candidateToWire(&paths[i])
			w.PeerName = names[paths[i].Peer]
			one.Paths = append(one.Paths, w)
		}
		rep.Candidates = append(rep.Candidates, one)
	}
	return nil
}

// ControlPeer implements onlinkv1.AdminServer.
func (s *Server) ControlPeer(ctx context.Context, r *onlinkv1.ControlPeerRequest) (*onlinkv1.ControlPeerReply, error) {
	p, err := s.findPeer(r.GetPeer())
	if err != nil {
		return nil, err
	}
	why := r.GetReason()
	if len(why) > maxReason {
		return nil, status.Errorf(codes.InvalidArgument, "the reason has %d bytes; use at most %d", len(why), maxReason)
	}
	if err := controllable(&p, r.GetAction()); err != nil {
		return nil, err
	}
	s.Log.Warn("session controlled", "peer", p.Name, "address", p.Address, "action", actionName(r.GetAction()), "why", why, "by", caller(ctx))
	rep := &onlinkv1.ControlPeerReply{}
	if rep.Done, err = s.control(ctx, p.Address, r.GetAction(), why); err != nil {
		return nil, sessionError(err)
	}
	if rep.Peer = s.peer(p); r.GetAction() == onlinkv1.PeerAction_PEER_ACTION_FORGET {
		return rep, nil // as it was last
	}
	for _, now := range s.Speaker.Peers() {
		if now.Address == p.Address {
			rep.Peer = s.peer(now)
		}
	}
	return rep, nil
}

// controllable returns why an action cannot be done with a peer.
func controllable(p *bgp.PeerStatus, action onlinkv1.PeerAction) error {
	if p.Stranger && action != onlinkv1.PeerAction_PEER_ACTION_FORGET {
		return status.Errorf(codes.NotFound, "%s is not configured: add it to bgp.peers to control it; it can be forgotten", p.Address)
	}
	switch action {
	case onlinkv1.PeerAction_PEER_ACTION_DISABLE, onlinkv1.PeerAction_PEER_ACTION_ENABLE, onlinkv1.PeerAction_PEER_ACTION_RESET:
		if p.Dynamic {
			return status.Errorf(codes.FailedPrecondition, "%s is a dynamic peer: add it to bgp.peers to control it; it can be refreshed", p.Address)
		}
	case onlinkv1.PeerAction_PEER_ACTION_REFRESH_IN, onlinkv1.PeerAction_PEER_ACTION_REFRESH_OUT:
	case onlinkv1.PeerAction_PEER_ACTION_FORGET:
		if !p.Gone {
			return status.Errorf(codes.FailedPrecondition, "%s is not gone: only a dynamic peer without a session is forgotten; remove a configured one from bgp.peers", p.Address)
		}
	case onlinkv1.PeerAction_PEER_ACTION_UNSPECIFIED:
		return status.Error(codes.InvalidArgument, "action is missing: use disable, enable, reset, refresh in, refresh out or forget")
	default:
		return status.Errorf(codes.InvalidArgument, "unknown action %d: use disable, enable, reset, refresh in, refresh out or forget", action)
	}
	return nil
}

// control does an action, and returns its effect in words where the peer's state does
// not show it.
func (s *Server) control(ctx context.Context, peer netip.Addr, action onlinkv1.PeerAction, why string) (done string, err error) {
	switch action {
	case onlinkv1.PeerAction_PEER_ACTION_DISABLE:
		if why == "" {
			why = "disabled by the operator"
		}
		return "", s.Speaker.Hold(ctx, peer, adminHolder, why)
	case onlinkv1.PeerAction_PEER_ACTION_ENABLE:
		return "", s.Speaker.Release(ctx, peer, adminHolder)
	case onlinkv1.PeerAction_PEER_ACTION_RESET:
		return "", s.Speaker.Reset(ctx, peer, why)
	case onlinkv1.PeerAction_PEER_ACTION_REFRESH_IN:
		families, err := s.Sessions.RefreshIn(ctx, peer)
		return refreshed(families), err
	case onlinkv1.PeerAction_PEER_ACTION_REFRESH_OUT:
		return "the export policy is applied again, and all routes are announced to the peer again", s.Sessions.RefreshOut(ctx, peer)
	case onlinkv1.PeerAction_PEER_ACTION_FORGET:
		return "forgotten: it is listed again after its next connection", s.Sessions.Forget(ctx, peer)
	case onlinkv1.PeerAction_PEER_ACTION_UNSPECIFIED:
	}
	return "", nil // judged before
}

// refreshed describes a refresh of received routes.
func refreshed(families []bgp.Family) string {
	const again = "the import policy is applied again to its routes"
	if len(families) == 0 {
		return again + "; the peer was not asked for them, because it does not offer route refresh (RFC 2918)"
	}
	names := make([]string, len(families))
	for i, f := range families {
		names[i] = f.String()
	}
	slices.Sort(names)
	return fmt.Sprintf("%s, and the peer is asked to announce them again: ROUTE-REFRESH for %s", again, strings.Join(names, " and "))
}

// actionName is the name of an action in the log.
func actionName(a onlinkv1.PeerAction) string {
	return strings.ToLower(strings.TrimPrefix(a.String(), "PEER_ACTION_"))
}

// findPeer returns the peer of a name or address. A name that several dynamic peers
// share does not identify one.
func (s *Server) findPeer(name string) (bgp.PeerStatus, error) {
	var found []bgp.PeerStatus
	for _, p := range s.Speaker.Peers() {
		if p.Address.String() == name {
			return p, nil
		}
		if p.Name == name && !p.Stranger && name != "" {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		return bgp.PeerStatus{}, status.Errorf(codes.NotFound, "no peer has the name or address %q: see onlinkctl peers", name)
	case 1:
		return found[0], nil
	}
	return bgp.PeerStatus{}, status.Errorf(codes.InvalidArgument, "%d dynamic peers have the name %q: use the address of one, such as %s", len(found), name, found[0].Address)
}

// sessionError is an error of a session as the caller receives it.
func sessionError(err error) error {
	switch {
	case errors.Is(err, bgp.ErrUnknownPeer):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, bgp.ErrNoSession):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, bgp.ErrNotStarted):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Internal, err.Error())
}
