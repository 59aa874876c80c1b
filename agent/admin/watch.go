package admin

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	onlinkv1 "onlink/proto/v1"
)

const (
	// lookEvery is the least time between two snapshots for watchers, which share
	// them, and lookShare how many times as long as the gathering of one: a
	// reflector with thousands of sessions spends no more than that on its watchers.
	lookEvery = time.Second
	lookShare = 100
	lookLast  = 10 * time.Second
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
	since := time.Now()
	for {
		began := time.Now()
		snap, err := board.Since(ctx, since)
		if err != nil {
			return status.FromContextError(err).Err()
		}
		pause := min(max(lookEvery, lookShare*time.Since(began)), lookLast)
		if w := statusToWire(snap); !proto.Equal(sent, w) {
			if err := send(w); err != nil {
				return err
			}
			sent = w
		}
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-time.After(pause):
		}
		since = time.Now().Add(-lookEvery / 2) // one snapshot serves all watchers of this moment
	}
}
