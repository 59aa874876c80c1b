// Package endpoint holds the sockets that the agent listens on. All of them are
// opened before anything runs, so that a busy one is an error at start; a [Set]
// serves them together and ends them together.
package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
)

// stopWait is how long requests under way may take when the agent ends.
const stopWait = time.Second

// Endpoint is one listening socket and its server.
type Endpoint struct {
	lis   net.Listener
	serve func(ctx context.Context, lis net.Listener) error
	stop  func() // nil: serve ends with its context
}

// Server is a gRPC server, or a type that contains one.
type Server interface {
	Serve(lis net.Listener) error
	GracefulStop()
	Stop()
}

// GRPC returns the endpoint of a gRPC server; name is for its errors.
func GRPC(name string, lis net.Listener, srv Server) Endpoint {
	return Endpoint{
		lis: lis,
		serve: func(_ context.Context, lis net.Listener) error {
			// A stop before the start is no failure: a signal may come at any moment.
			if err := srv.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				return fmt.Errorf("serve %s: %w", name, err)
			}
			return nil
		},
		stop: func() {
			t := time.AfterFunc(stopWait, srv.Stop)
			defer t.Stop()
			srv.GracefulStop()
		},
	}
}

// HTTP returns the endpoint of an HTTP handler; name is for its errors.
func HTTP(name string, lis net.Listener, handler http.Handler) Endpoint {
	srv := newHTTP(handler)
	return Endpoint{
		lis: lis,
		serve: func(_ context.Context, lis net.Listener) error {
			if err := srv.Serve(lis); err != nil && !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve %s: %w", name, err)
			}
			return nil
		},
		stop: func() { srv.Close() }, //nolint:errcheck,gosec // nothing to flush
	}
}

// newHTTP returns a server with the bounds of time and size of every HTTP endpoint.
func newHTTP(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10,
	}
}

// Func returns the endpoint of a function that serves until its context ends.
func Func(lis net.Listener, serve func(ctx context.Context, lis net.Listener) error) Endpoint {
	return Endpoint{lis: lis, serve: serve}
}

// Set is all endpoints of the agent. Its zero value is ready to use.
type Set struct{ list []Endpoint }

// Add adds an endpoint, to be served by Serve or closed by Close.
func (s *Set) Add(e Endpoint) { s.list = append(s.list, e) }

// Serve serves every endpoint until ctx ends, in goroutines of g.
func (s *Set) Serve(ctx context.Context, g *errgroup.Group) {
	for _, e := range s.list {
		g.Go(func() error { return e.serve(ctx, e.lis) })
	}
	g.Go(func() error {
		<-ctx.Done()
		for _, e := range s.list {
			if e.stop != nil {
				e.stop()
			}
		}
		return nil
	})
}

// Close closes the sockets that were opened and never served.
func (s *Set) Close() {
	for _, e := range s.list {
		e.lis.Close() // closed already when served
	}
}
