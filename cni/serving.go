package cni

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	onlinkv1 "onlink/proto/v1"
)

// servingEvery is how often WaitServing asks.
const servingEvery = 250 * time.Millisecond

// errNotServing is the agent's STATUS answer.
var errNotServing = errors.New("the agent does not serve yet")

// WaitServing asks the agent for CNI's STATUS until it serves. The error
// is its last answer, when ctx ends before.
func WaitServing(ctx context.Context, socket string) error {
	cc, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("open CNI socket: %w", err)
	}
	defer cc.Close() //nolint:errcheck // nothing is under way
	request := &onlinkv1.CNIRequest{Config: []byte(`{"cniVersion":"1.1.0","name":"onlink"}`)}
	tick := time.NewTicker(servingEvery)
	defer tick.Stop()
	for {
		reply, err := onlinkv1.NewCNIClient(cc).Status(ctx, request)
		switch {
		case err == nil && reply.GetExitCode() == 0:
			return nil
		case err == nil:
			err = fmt.Errorf("%w: %s", errNotServing, reply.GetStdout())
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
