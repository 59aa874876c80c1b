package agent

import (
	"context"
	"fmt"
	"time"

	"onlink/ipam"
)

// registryPatience is how long an operator's question waits for the registry.
// What the node knows by itself is answered after it: a registry whose packets
// are dropped must not keep that back.
const registryPatience = 700 * time.Millisecond

// listRegistry returns every node's blocks, or after [registryPatience] an
// error. A registry that does not look at its context is not waited for.
func (a *agent) listRegistry(ctx context.Context) ([]ipam.Block, error) {
	ctx, cancel := context.WithTimeout(ctx, registryPatience)
	defer cancel()
	type answer struct {
		blocks []ipam.Block
		err    error
	}
	got := make(chan answer, 1)
	go func() {
		blocks, err := a.registry.List(ctx, "")
		got <- answer{blocks, err}
	}()
	select {
	case r := <-got:
		if ctx.Err() == nil {
			return r.blocks, r.err
		}
	case <-ctx.Done():
	}
	if err := context.Cause(ctx); err != context.DeadlineExceeded { //nolint:errorlint // the context's own
		return nil, err
	}
	return nil, fmt.Errorf("no answer within %v", registryPatience)
}
