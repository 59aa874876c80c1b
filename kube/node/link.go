package node

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	onlinkv1 "onlink/proto/v1"
)

const (
	// callTime bounds a call of the agent; a new configuration takes the longest.
	callTime = 30 * time.Second
	// redial is the pause between two attempts to reach an agent that is away.
	redial = time.Second
	// answerSize bounds an answer: the status of a node with a thousand peers.
	answerSize = 64 << 20
)

// link is the connection to the agent: its latest status, and which of its lives
// that belongs to.
type link struct {
	log   *slog.Logger
	conn  *grpc.ClientConn
	admin onlinkv1.AdminClient
	bells []bell

	mu     sync.Mutex // guards all below
	status *onlinkv1.Status
	up     bool
	life   int // grows with every stream: what was sent in an earlier one may be lost
	err    error
}

// dial returns a link to the agent at a unix socket. Nothing runs and no
// connection is made yet.
func dial(socket string, log *slog.Logger, bells ...bell) (*link, error) {
	conn, err := grpc.NewClient("unix:"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the kernel names both ends
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: redial / 4, Multiplier: 2, Jitter: 0.2, MaxDelay: redial},
			MinConnectTimeout: redial,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(answerSize), grpc.MaxCallSendMsgSize(answerSize)),
	)
	if err != nil {
		return nil, err
	}
	return &link{log: log, conn: conn, admin: onlinkv1.NewAdminClient(conn), bells: bells}, nil
}

// run receives the agent's status until ctx ends.
func (l *link) run(ctx context.Context) error {
	defer func() { _ = l.conn.Close() }() // nothing is in flight
	for {
		err := l.receive(ctx)
		if ctx.Err() != nil {
			return nil
		}
		l.lost(err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(redial):
		}
	}
}

// receive is one stream of the agent's status.
func (l *link) receive(ctx context.Context) error {
	stream, err := l.admin.WatchStatus(ctx, &onlinkv1.WatchStatusRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		s, err := stream.Recv()
		if err != nil {
			return err
		}
		l.mu.Lock()
		if first {
			l.life++
			l.log.Info("connected to the agent", "version", s.GetVersion(), "started", s.GetStarted().AsTime())
		}
		l.status, l.up, l.err = s, true, nil
		l.mu.Unlock()
		l.ring()
	}
}

// lost notes that the agent is away. The last status stays: it is what the
// kernel has.
func (l *link) lost(err error) {
	l.mu.Lock()
	news := l.up || l.err == nil || l.err.Error() != err.Error()
	l.up, l.err = false, err
	l.mu.Unlock()
	if news {
		l.log.Warn("the agent is away, its routes and announcements stay as it left them", "err", err)
		l.ring()
	}
}

func (l *link) ring() {
	for _, b := range l.bells {
		b.ring()
	}
}

// last returns the latest status, nil before the first, its life, and whether the
// agent is there now.
func (l *link) last() (s *onlinkv1.Status, life int, up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status, l.life, l.up
}

// failure returns why the agent is away.
func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
