package admin

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/agent/hold"
	onlinkv1 "onlink/proto/v1"
)

// Confirm implements onlinkv1.AdminServer. Once begun it is done to the end, also
// when the caller goes away.
func (s *Server) Confirm(ctx context.Context, req *onlinkv1.ConfirmRequest) (*onlinkv1.ConfirmReply, error) {
	change, err := s.Held.Confirm(context.WithoutCancel(ctx), req.GetDigest())
	switch {
	case errors.Is(err, hold.ErrUnknown):
		return nil, status.Error(codes.NotFound, err.Error())
	case errors.Is(err, hold.ErrSeveral):
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	case err != nil:
		return nil, configStatus(err)
	}
	s.Log.Warn("change confirmed", "by", caller(ctx), "what", change.What, "digest", change.Digest)
	return &onlinkv1.ConfirmReply{Change: heldToWire(change)}, nil
}
