package bmp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// The pauses between connections: the first is firstRetry, the next ones are twice as
// long each, up to lastRetry, with a random part, because the stations of all nodes may
// lose one collector at once. RFC 7854 section 3.2 suggests 30 s to 12 minutes, with
// which a collector that was restarted would be blind for long. One connection of
// steadyTime begins anew with the first.
const (
	firstRetry = 5 * time.Second
	lastRetry  = 5 * time.Minute
	steadyTime = time.Minute
)

// writeBuffer is how many bytes are sent at once.
const writeBuffer = 64 << 10

// errRemoved is the cause of the end of a station that is no longer configured.
var errRemoved = errors.New("the station is no longer configured")

// station keeps one connection to a collector.
type station struct {
	cfg *Config
	set Settings

	mu     sync.Mutex // guards all below
	status Status
	news   *backlog // of the connection; nil without one
}

func newStation(cfg *Config, set *Settings) *station {
	return &station{cfg: cfg, set: *set, status: Status{Settings: *set, Since: time.Now()}}
}

// run connects, and sends, again and again until ctx ends.
func (s *station) run(ctx context.Context) {
	for pause := s.cfg.retry; ; pause = min(2*pause, lastRetry) {
		began := time.Now()
		err := s.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) >= steadyTime {
			pause = s.cfg.retry
		}
		s.lost(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(jitter(pause)):
		}
	}
}

// jitter returns half of a pause to one and a half.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) } //nolint:gosec // no secret

// connect makes a connection and sends until its end.
func (s *station) connect(ctx context.Context) error {
	raw, err := dial(ctx, &s.set)
	if err != nil {
		return fmt.Errorf("connect: %w", plain(err))
	}
	c := &conn{Conn: raw, write: s.cfg.write}
	defer c.Close()
	gone := make(chan error, 1)
	go c.watch(gone)
	defer context.AfterFunc(ctx, c.end)()

	one := &session{
		Config: s.cfg, set: &s.set, out: bufio.NewWriterSize(c, writeBuffer), sent: s.sent,
		news: newBacklog(viewsOf(s.set.Monitor)), shown: map[netip.Addr]*instance{}, sizes: map[netip.Addr]int{},
	}
	s.up(one.news)
	defer s.down()
	err = one.run(ctx, gone)
	if ctx.Err() != nil {
		one.terminate(context.Cause(ctx))
		return err
	}
	select {
	case why := <-gone: // the cause of a failed write
		return why
	default:
		return err
	}
}

// terminate sends the last message, unless a message before it was cut.
func (s *session) terminate(cause error) {
	reason := uint16(closedForNow)
	if errors.Is(cause, errRemoved) {
		reason = closedForGood
	}
	s.send(1, appendTermination(nil, reason))
	s.flush() //nolint:errcheck,gosec // the collector may be gone
}

// up notes that there is a connection.
func (s *station) up(news *backlog) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.news = news
	s.status.Connected, s.status.Since = true, time.Now()
	s.status.Connections++
	s.cfg.Log.Info("connected to a bmp station", "station", s.set.Name, "address", s.set.endpoint())
}

func (s *station) down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.news = nil
	s.status.Connected, s.status.Since = false, time.Now()
}

// lost notes why there is no connection. It logs a reason once, not at each attempt.
func (s *station) lost(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, errOverflow) {
		s.status.Overflows++
	}
	if text := err.Error(); text != s.status.LastError || s.status.Since.After(s.status.ErrorAt) {
		s.cfg.Log.Warn("no connection to a bmp station", "station", s.set.Name, "address", s.set.endpoint(), "err", err)
		s.status.LastError = text
	}
	s.status.ErrorAt = time.Now()
}

func (s *station) sent(messages, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Messages += uint64(messages) //nolint:gosec // counts
	s.status.Bytes += uint64(size)        //nolint:gosec // counts
}

// state returns the station's status.
func (s *station) state() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	if s.news != nil {
		st.Waiting = s.news.waiting()
	}
	return st
}
