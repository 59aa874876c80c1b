package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"onlink/cmd/onlinkctl/monitor"
	onlinkv1 "onlink/proto/v1"
)

const (
	// pauseShare is how many times as long as its answers a turn pauses at least: on
	// a reflector with thousands of sessions a list takes its time.
	pauseShare = 4
	// detailShare is the part of the interval that details may take.
	detailShare = 10
	// The pauses before another connection.
	firstAgain = 500 * time.Millisecond
	lastAgain  = 10 * time.Second
)

// question is one call of a turn.
type question func(context.Context, *connection) (monitor.Answer, error)

func askStatus(ctx context.Context, c *connection) (monitor.Answer, error) {
	r, err := c.GetStatus(ctx, &onlinkv1.GetStatusRequest{})
	return monitor.Answer{Status: cleaned(r)}, err
}

func askPeers(ctx context.Context, c *connection) (monitor.Answer, error) {
	r, err := c.ListPeers(ctx, &onlinkv1.ListPeersRequest{})
	return monitor.Answer{Peers: cleaned(r)}, err
}

func askPools(ctx context.Context, c *connection) (monitor.Answer, error) {
	r, err := c.ListPools(ctx, &onlinkv1.ListPoolsRequest{})
	return monitor.Answer{Pools: cleaned(r)}, err
}

func askBlocks(ctx context.Context, c *connection) (monitor.Answer, error) {
	r, err := c.ListBlocks(ctx, &onlinkv1.ListBlocksRequest{})
	return monitor.Answer{Blocks: cleaned(r)}, err
}

// feed is the source of a monitor: it reads the stream of the status, asks for the rest
// at an interval, and connects again when the agent is gone.
type feed struct {
	app      *app
	interval time.Duration

	mu     sync.Mutex
	wanted []string // sessions whose details are on the screen, the first one first

	asked string // the session whose details were asked for last; the turns' own
}

func newFeed(a *app, interval time.Duration) *feed { return &feed{app: a, interval: interval} }

// Want implements [monitor.Source].
func (f *feed) Want(peers []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wanted = peers
}

// Run implements [monitor.Source]. Each attempt has a connection of its own: the one of
// gRPC waits longer and longer before it dials again.
func (f *feed) Run(ctx context.Context, send func(monitor.Answer)) {
	again := firstAgain
	for {
		err := f.connected(ctx, func(a monitor.Answer) {
			a.At = f.app.now()
			if a.Peers != nil { // a status alone may be all that this agent answers
				again = firstAgain
			}
			send(a)
		})
		if ctx.Err() != nil {
			return
		}
		now := f.app.now()
		send(monitor.Answer{At: now, Failed: errors.New(clean(err.Error())), Again: now.Add(again)})
		select {
		case <-ctx.Done():
			return
		case <-time.After(again):
		}
		again = min(2*again, lastAgain)
	}
}

// connected sends what one connection brings, until it fails. The stream alone would not
// notice an agent that hangs: it is silent as long as the status stays the same.
func (f *feed) connected(ctx context.Context, send func(monitor.Answer)) error {
	conn, err := f.app.connect()
	if err != nil {
		return err
	}
	defer conn.close() //nolint:errcheck // nothing was written
	var one sync.Mutex
	alone := func(a monitor.Answer) {
		one.Lock()
		defer one.Unlock()
		send(a)
	}
	both, ctx := errgroup.WithContext(ctx)
	both.Go(kept(func() error { return f.follow(ctx, conn, alone) }))
	both.Go(kept(func() error { return f.turns(ctx, conn, alone) }))
	err = both.Wait()
	if c, ok := errors.AsType[panicError](err); ok {
		panic(string(c))
	}
	return conn.problem(err)
}

// panicError is a panic of a goroutine, with its stack.
type panicError string

func (c panicError) Error() string { return string(c) }

// kept makes a panic an error for the goroutine that waits: one of any other goroutine
// ends the program at once, and leaves the terminal as it is.
func kept(do func() error) func() error {
	return func() (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = panicError(fmt.Sprintf("%v\n%s", r, debug.Stack()))
			}
		}()
		return do()
	}
}

// follow sends each status of the stream.
func (f *feed) follow(ctx context.Context, conn *connection, send func(monitor.Answer)) error {
	stream, err := conn.WatchStatus(ctx, &onlinkv1.WatchStatusRequest{})
	if err != nil {
		return err
	}
	for {
		s, err := stream.Recv()
		if err != nil {
			return err
		}
		send(monitor.Answer{Status: cleaned(s)})
	}
}

// turns asks at the interval, one call after the other.
func (f *feed) turns(ctx context.Context, conn *connection, send func(monitor.Answer)) error {
	for {
		began := time.Now()
		for _, ask := range []question{askPeers, askPools, askBlocks} {
			answer, err := f.ask(ctx, conn, ask)
			if err != nil {
				return err
			}
			send(answer)
		}
		f.details(ctx, conn, send)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(f.interval, pauseShare*time.Since(began))):
		}
	}
}

// ask makes one call within the timeout.
func (f *feed) ask(ctx context.Context, conn *connection, q question) (monitor.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, f.app.timeout)
	defer cancel()
	return q(ctx, conn)
}

// details asks for the sessions on the screen: the first one in every turn, of the others
// as many as a tenth of the interval has time for, then the next ones. One that fails is
// left out, because its session may be gone since the list was made; a lost connection
// shows in the next list.
func (f *feed) details(ctx context.Context, conn *connection, send func(monitor.Answer)) {
	f.mu.Lock()
	wanted := inTurn(f.wanted, f.asked)
	f.mu.Unlock()
	began := time.Now()
	for i, peer := range wanted {
		if i > 0 && time.Since(began) > f.interval/detailShare {
			return
		}
		answer, err := f.ask(ctx, conn, func(ctx context.Context, c *connection) (monitor.Answer, error) {
			r, err := c.GetPeer(ctx, &onlinkv1.GetPeerRequest{Peer: peer})
			return monitor.Answer{Detail: cleaned(r)}, err
		})
		if i > 0 {
			f.asked = peer
		}
		if err == nil {
			send(answer)
		}
	}
}

// inTurn returns the sessions in the order in which they are asked for: the first one,
// then those that follow the last one asked for.
func inTurn(wanted []string, asked string) []string {
	if len(wanted) == 0 {
		return nil
	}
	rest := wanted[1:]
	next := slices.Index(rest, asked) + 1
	return slices.Concat(wanted[:1], rest[next:], rest[:next])
}

// cleaned makes every text of a message safe for a terminal, here where no field can be
// left out, and returns the message.
func cleaned[M proto.Message](m M) M {
	cleanMessage(m.ProtoReflect())
	return m
}

func cleanMessage(m protoreflect.Message) {
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsMap():
		case field.IsList():
			list := v.List()
			for i := range list.Len() {
				if safe, ok := cleanValue(field.Kind(), list.Get(i)); ok {
					list.Set(i, safe)
				}
			}
		default:
			if safe, ok := cleanValue(field.Kind(), v); ok {
				m.Set(field, safe)
			}
		}
		return true
	})
}

// cleanValue returns the safe form of a text; a message is changed in place.
func cleanValue(kind protoreflect.Kind, v protoreflect.Value) (safe protoreflect.Value, text bool) {
	if kind == protoreflect.MessageKind {
		cleanMessage(v.Message())
	}
	if kind != protoreflect.StringKind {
		return v, false
	}
	return protoreflect.ValueOfString(clean(v.String())), true
}
