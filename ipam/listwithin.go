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
	return inTime(ctx, patience, func(ctx context.Context) ([]Block, error) { return reg.List(ctx, "") })
}

// NodesWithin is ListWithin for the nodes. A registry that lists none has none.
func NodesWithin(ctx context.Context, reg Registry, patience time.Duration) ([]Node, error) {
	lister, ok := reg.(NodeLister)
	if !ok {
		return nil, nil
	}
	return inTime(ctx, patience, lister.Nodes)
}

func inTime[T any](ctx context.Context, patience time.Duration, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	type answer struct {
		list T
		err  error
	}
	got := make(chan answer, 1) // with room: a late answer ends its goroutine
	go func() {
		list, err := ask(ctx)
		got <- answer{list, err}
	}()
	select {
	case r := <-got:
		if ctx.Err() == nil {
			return r.list, r.err
		}
	case <-ctx.Done():
	}
	var none T
	if err := context.Cause(ctx); err != context.DeadlineExceeded { //nolint:errorlint // the context's own
		return none, err
	}
	return none, fmt.Errorf("no answer within %v", patience)
}
