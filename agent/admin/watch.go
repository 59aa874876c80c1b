package admin

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"onlink/agent/state"
	onlinkv1 "onlink/proto/v1"
)

// WatchStatus implements onlinkv1.AdminServer. Nothing is gathered for a reader that
// does not take what it was sent.
func (s *Server) WatchStatus(_ *onlinkv1.WatchStatusRequest, to grpc.ServerStreamingServer[onlinkv1.Status]) error {
	end, err := s.watchers.begin(visitorOf(to.Context()))
	if err != nil {
		return err
	}
	defer end()
	return watchStatus(to.Context(), s.Board, to.Send)
}

// watchStatus sends each status that differs from the one sent before, until ctx
// ends or a status cannot be sent.
func watchStatus(ctx context.Context, board Board, send func(*onlinkv1.Status) error) error {
	var sent *onlinkv1.Status
	err := state.Follow(ctx, board, func(snap *state.Snapshot) error {
		w := statusToWire(snap)
		if proto.Equal(sent, w) {
			return nil
		}
		sent = w
		return send(w)
	})
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	return err
}
