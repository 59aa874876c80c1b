package ipam

import (
	"context"
	"fmt"
	"time"
)

// ListWithin returns every node's blocks, or an error after the given time. It
// does not wait for a registry that ignores its context: the node's own state must
// not wait for a registry whose packets are dropped.
func ListWithin(ctx context.Context, reg Registry, patience time.Duration) ([]Block, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	type answer struct {
		blocks []Block
		err    error
	}
	got := make(chan answer, 1) // with room: a late answer ends its goroutine
	go func() {
		blocks, err := reg.List(ctx, "")
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
	return nil, fmt.Errorf("no answer within %v", patience)
}
