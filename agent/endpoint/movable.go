package endpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Movable is an HTTP endpoint whose address changes while the agent runs. Without an
// address it has no socket. Its methods may be called from any goroutine.
type Movable struct {
	field   string // key of the configuration, for errors and the log
	handler http.Handler
	bounds  Bounds
	log     *slog.Logger
	moved   chan struct{} // cap 1; sent to when now has changed, never closed

	mu  sync.Mutex
	now served // guarded by mu
}

// served is a socket and its server; the zero value is none.
type served struct {
	at  netip.AddrPort
	lis net.Listener
	srv *http.Server
}

// NewMovable returns an endpoint without an address. Field is its key of the
// configuration.
func NewMovable(field string, bounds Bounds, log *slog.Logger, handler http.Handler) *Movable {
	return &Movable{field: field, handler: handler, bounds: bounds, log: log, moved: make(chan struct{}, 1)}
}

// Set opens the socket at an address, and closes the one before with its connections;
// the zero AddrPort is none. When it cannot be opened the one before stays. Set of nil
// does nothing.
func (m *Movable) Set(at netip.AddrPort) error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	last := m.now.at
	if at == last {
		return nil
	}
	// The one before goes first: it may have the port that the new one needs.
	m.close()
	if err := m.open(at); err != nil {
		return errors.Join(fmt.Errorf("%s: %w; set another address, or off", m.field, err), m.open(last))
	}
	return nil
}

// open opens the socket at an address. The caller holds the lock.
func (m *Movable) open(at netip.AddrPort) error {
	if !at.IsValid() {
		return nil
	}
	lis, err := net.Listen("tcp", at.String())
	if err != nil {
		return err
	}
	m.now = served{at: at, lis: Bound(lis, m.bounds, m.field, m.log), srv: newHTTP(m.handler)}
	select {
	case m.moved <- struct{}{}:
	default: // Run has not taken the one before, and will find this one
	}
	return nil
}

// close closes the socket and its connections. The caller holds the lock.
func (m *Movable) close() {
	if m.now.srv != nil {
		m.now.srv.Close() //nolint:errcheck,gosec // nothing to flush
		m.now.lis.Close() //nolint:gosec // closed already when it was served
	}
	m.now = served{}
}

// Run serves at the address that is set, until ctx ends.
func (m *Movable) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		var last *http.Server
		for {
			select {
			case <-ctx.Done():
				m.mu.Lock()
				defer m.mu.Unlock()
				m.close()
				return nil
			case <-m.moved:
			}
			now := m.current()
			if now.srv == nil || now.srv == last {
				continue // it moved on before this goroutine looked
			}
			last = now.srv
			g.Go(func() error { return m.serve(now) })
		}
	})
	return g.Wait()
}

func (m *Movable) current() served {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// serve serves one socket until it is closed.
func (m *Movable) serve(s served) error {
	m.log.Info("listening", "endpoint", m.field, "address", s.at)
	if err := s.srv.Serve(s.lis); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serve %s: %w", m.field, err)
	}
	return nil
}
