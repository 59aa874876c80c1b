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

// servingEvery is the interval between two requests of WaitServing.
const servingEvery = 250 * time.Millisecond

// errNotServing is the answer of an agent that does not serve yet.
var errNotServing = errors.New("the agent does not serve yet")

// WaitServing calls the agent's STATUS until it serves. When ctx ends before, the
// error is the agent's last answer.
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
