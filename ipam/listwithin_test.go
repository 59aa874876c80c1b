package ipam

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// deaf is a registry whose packets are dropped.
type deaf struct {
	Registry

	heeds bool // it gives up with the context
}

func (d deaf) List(ctx context.Context, _ string) ([]Block, error) {
	if !d.heeds {
		time.Sleep(time.Minute)
		return nil, errors.New("late")
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (d deaf) Nodes(ctx context.Context) ([]Node, error) {
	_, err := d.List(ctx, "")
	return nil, err
}

// TestListWithin: a registry that does not answer is given up within a
// second, whether it looks at its context or not, and the caller's end is not
// taken for that.
func TestListWithin(t *testing.T) {
	for _, heeds := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			reg, began := deaf{heeds: heeds}, time.Now()
			_, err := ListWithin(t.Context(), reg, 700*time.Millisecond)
			if took := time.Since(began); took >= time.Second || err == nil || !strings.Contains(err.Error(), "no answer within 700ms") {
				t.Errorf("heeds %t: %v after %v", heeds, err, took)
			}
			began = time.Now()
			if _, err := NodesWithin(t.Context(), reg, 700*time.Millisecond); time.Since(began) >= time.Second || err == nil {
				t.Errorf("nodes, heeds %t: %v after %v", heeds, err, time.Since(began))
			}
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := ListWithin(gone, reg, 700*time.Millisecond); !errors.Is(err, context.Canceled) {
				t.Errorf("heeds %t: a caller that went away: %v", heeds, err)
			}
			time.Sleep(2 * time.Minute) // the late answers go to nobody
		})
	}
}
