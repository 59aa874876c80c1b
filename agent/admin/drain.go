package admin

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/agent/drain"
	"onlink/bgp"
	onlinkv1 "onlink/proto/v1"
)

const (
	// maxDrainWait bounds how long prefixes stay announced while draining.
	maxDrainWait = time.Hour
	// adminHolder names the operator's holds of sessions.
	adminHolder = "admin"
	// maxReason is the longest reason that a CEASE carries (RFC 9003).
	maxReason = 128
)

// Drain implements onlinkv1.AdminServer.
func (s *Server) Drain(ctx context.Context, r *onlinkv1.DrainRequest) (*onlinkv1.DrainReply, error) {
	wait := r.GetWait().AsDuration()
	if wait < 0 || wait > maxDrainWait {
		return nil, status.Errorf(codes.InvalidArgument, "wait %s is not within 0s to %s", wait, maxDrainWait)
	}
	if err := s.Drainer.Start(wait); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return s.drained(ctx, drain.Drained)
}

// Undrain implements onlinkv1.AdminServer.
func (s *Server) Undrain(ctx context.Context, _ *onlinkv1.UndrainRequest) (*onlinkv1.DrainReply, error) {
	if err := s.Drainer.End(); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return s.drained(ctx, drain.Serving)
}

// drained waits for a phase and returns the announcements of that moment.
func (s *Server) drained(ctx context.Context, p drain.Phase) (*onlinkv1.DrainReply, error) {
	if err := s.Drainer.Await(ctx, p); err != nil {
		if ctx.Err() != nil {
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		return nil, status.Error(codes.Aborted, err.Error())
	}
	told, n := s.Drainer.State()
	return &onlinkv1.DrainReply{Phase: told.String(), Prefixes: number(n)}, nil
}

// ControlPeer implements onlinkv1.AdminServer.
func (s *Server) ControlPeer(ctx context.Context, r *onlinkv1.ControlPeerRequest) (*onlinkv1.ControlPeerReply, error) {
	peer, err := s.findPeer(r.GetPeer())
	if err != nil {
		return nil, err
	}
	why := r.GetReason()
	if len(why) > maxReason {
		return nil, status.Errorf(codes.InvalidArgument, "the reason has %d bytes; use at most %d", len(why), maxReason)
	}
	switch r.GetAction() {
	case onlinkv1.PeerAction_PEER_ACTION_DISABLE:
		if why == "" {
			why = "disabled by the operator"
		}
		err = s.Speaker.Hold(ctx, peer, adminHolder, why)
	case onlinkv1.PeerAction_PEER_ACTION_ENABLE:
		err = s.Speaker.Release(ctx, peer, adminHolder)
	case onlinkv1.PeerAction_PEER_ACTION_RESET:
		err = s.Speaker.Reset(ctx, peer, why)
	case onlinkv1.PeerAction_PEER_ACTION_UNSPECIFIED:
		return nil, status.Error(codes.InvalidArgument, "action is missing: use disable, enable or reset")
	default:
		return nil, status.Errorf(codes.InvalidArgument, "unknown action %d: use disable, enable or reset", r.GetAction())
	}
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	rep := &onlinkv1.ControlPeerReply{}
	for _, p := range s.Speaker.Peers() {
		if p.Address == peer {
			rep.Peer = s.peer(p)
		}
	}
	return rep, nil
}

// findPeer returns the address of the configured peer of a name or address.
func (s *Server) findPeer(name string) (netip.Addr, error) {
	list := s.Speaker.Peers()
	i := slices.IndexFunc(list, func(p bgp.PeerStatus) bool { return !p.Stranger && (p.Name == name || p.Address.String() == name) })
	switch {
	case i < 0:
		return netip.Addr{}, status.Errorf(codes.NotFound, "no peer has the name or address %q: see onlinkctl peers", name)
	case list[i].Dynamic:
		return netip.Addr{}, status.Errorf(codes.FailedPrecondition, "%q is a dynamic peer: add it to bgp.peers to control it", name)
	}
	return list[i].Address, nil
}
