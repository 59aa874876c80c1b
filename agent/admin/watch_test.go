package admin

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"onlink/agent/state"
	onlinkv1 "onlink/proto/v1"
)

// gatherer is an agent that gathers a snapshot for each reader that needs a newer
// one, and counts them.
func gatherer(ctx context.Context, node *atomic.Value) (board *state.Board, gathered *atomic.Int64) {
	board, gathered = state.NewBoard(), new(atomic.Int64)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-board.Wanted():
			}
			if board.Outdated() {
				gathered.Add(1)
				name, _ := node.Load().(string)
				board.Publish(&state.Snapshot{Taken: time.Now(), Node: state.Node{Name: name}})
			}
		}
	}()
	return board, gathered
}

// TestWatchStatus: a watcher receives the present status, then each that differs,
// at most one a second; what changes and changes back while it does not read is
// missed, and watchers share the snapshots.
func TestWatchStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var node atomic.Value
		node.Store("a")
		board, gathered := gatherer(ctx, &node)
		got, other := make(chan string), make(chan string, 99)
		ended := make(chan error, 2)
		go func() {
			ended <- watchStatus(ctx, board, func(s *onlinkv1.Status) error { got <- s.GetNode(); return nil })
		}()
		go func() {
			ended <- watchStatus(ctx, board, func(s *onlinkv1.Status) error { other <- s.GetNode(); return nil })
		}()
		if first := <-got; first != "a" {
			t.Fatalf("the first status is of %q", first)
		}
		before := gathered.Load()
		time.Sleep(10*time.Second + state.FollowEvery/2)
		synctest.Wait()
		select {
		case again := <-got:
			t.Errorf("the same status again: %q", again)
		default:
		}
		if n := gathered.Load() - before; n < 5 || n > 11 {
			t.Errorf("%d snapshots in 10 s for two watchers, want one a second", n)
		}
		node.Store("b")
		time.Sleep(2 * state.FollowEvery)
		node.Store("c") // the first watcher has not taken b yet
		time.Sleep(2 * state.FollowEvery)
		if next := <-got; next != "b" {
			t.Errorf("after a comes %q", next)
		}
		if next := <-got; next != "c" {
			t.Errorf("after b comes %q", next)
		}
		synctest.Wait()
		if len(other) != 3 {
			t.Errorf("the other watcher received %d, want a, b and c: a slow one holds it up", len(other))
		}
		stop()
		for range 2 {
			wantCode(t, <-ended, codes.Canceled)
		}
	})
}

// TestWatchStatusSlow: a reader that does not read makes no snapshot.
func TestWatchStatusSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var node atomic.Value
		node.Store("a")
		board, gathered := gatherer(ctx, &node)
		errGone := errors.New("the reader is gone")
		ended := make(chan error, 1)
		blocked := make(chan struct{})
		go func() {
			ended <- watchStatus(ctx, board, func(*onlinkv1.Status) error { <-blocked; return errGone })
		}()
		time.Sleep(time.Hour)
		if n := gathered.Load(); n != 1 {
			t.Errorf("%d snapshots for a reader that does not read", n)
		}
		close(blocked)
		if err := <-ended; !errors.Is(err, errGone) {
			t.Errorf("ended with %v", err)
		}
		stop()
	})
}

// statusStream is a status stream without a connection.
type statusStream struct {
	grpc.ServerStream

	ctx context.Context
}

func (s statusStream) Context() context.Context    { return s.ctx }
func (s statusStream) Send(*onlinkv1.Status) error { return nil }

// TestWatchers: their number is bounded, and one that ends makes room.
func TestWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := (&bed{snapshot: &state.Snapshot{}}).server(t)
		ctx, stop := context.WithCancel(t.Context())
		by := func(n int, root bool) statusStream {
			return statusStream{ctx: context.WithValue(ctx, visitorKey{}, &visitor{key: strconv.Itoa(n), root: root})}
		}
		ended := make(chan error, maxWatchers)
		for i := range maxWatchers {
			go func() { ended <- s.WatchStatus(nil, by(i/maxWatchersEach, false)) }()
		}
		synctest.Wait()
		wantCode(t, s.WatchStatus(nil, by(0, false)), codes.ResourceExhausted)
		wantCode(t, s.WatchStatus(nil, by(maxWatchers, false)), codes.ResourceExhausted)
		go func() { ended <- s.WatchStatus(nil, by(maxWatchers, true)) }()
		synctest.Wait()
		if len(ended) != 0 {
			t.Errorf("root is kept out: %v", <-ended)
		}
		stop()
		for range maxWatchers + 1 {
			wantCode(t, <-ended, codes.Canceled)
		}
		wantCode(t, s.WatchStatus(nil, by(0, false)), codes.Canceled)
	})
}

// TestNamespaces: choices are set as a whole and listed; a mistake changes nothing.
func TestNamespaces(t *testing.T) {
	s := (&bed{}).server(t)
	set := func(list ...*onlinkv1.NamespacePools) error {
		_, err := s.SetNamespaces(t.Context(), &onlinkv1.SetNamespacesRequest{Namespaces: list})
		return err
	}
	wantCode(t, set(&onlinkv1.NamespacePools{Namespace: "shop", Pools: []string{"b", "a"}}, &onlinkv1.NamespacePools{Namespace: "bank", Pools: []string{"c"}}), codes.OK)
	wantCode(t, set(&onlinkv1.NamespacePools{Namespace: "", Pools: []string{"b"}}), codes.InvalidArgument)
	rep, err := s.ListNamespaces(t.Context(), nil)
	if err != nil || len(rep.GetNamespaces()) != 2 || rep.GetNamespaces()[0].GetNamespace() != "bank" || rep.GetNamespaces()[1].GetPools()[0] != "b" {
		t.Errorf("%v, %v", rep, err)
	}
	wantCode(t, set(), codes.OK)
	if rep, err := s.ListNamespaces(t.Context(), nil); err != nil || len(rep.GetNamespaces()) != 0 {
		t.Errorf("%v, %v", rep, err)
	}
}
