package admin

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/agent/drain"
	onlinkv1 "onlink/proto/v1"
)

// maxDrainWait bounds how long prefixes stay announced while draining.
const maxDrainWait = time.Hour

// Drain implements onlinkv1.AdminServer.
func (s *Server) Drain(ctx context.Context, r *onlinkv1.DrainRequest) (*onlinkv1.DrainReply, error) {
	wait := r.GetWait().AsDuration()
	if wait < 0 || wait > maxDrainWait {
		return nil, status.Errorf(codes.InvalidArgument, "wait %s is not within 0s to %s", wait, maxDrainWait)
	}
	s.Log.Warn("drain requested", "by", caller(ctx), "wait", wait)
	if err := s.Drainer.Start(wait, caller(ctx)); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return s.drained(ctx, drain.Drained)
}

// Undrain implements onlinkv1.AdminServer.
func (s *Server) Undrain(ctx context.Context, _ *onlinkv1.UndrainRequest) (*onlinkv1.DrainReply, error) {
	s.Log.Warn("undrain requested", "by", caller(ctx))
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
