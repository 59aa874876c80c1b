package endpoint

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
)

// TestSet: all endpoints are served until the context ends, and none of them
// calls that an error; what was never served is closed.
func TestSet(t *testing.T) {
	open := func() net.Listener {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return lis
	}
	var s Set
	web, rpc, fn := open(), open(), open()
	s.Add(HTTP("metrics", web, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") })))
	s.Add(GRPC("admin", rpc, grpc.NewServer()))
	served := make(chan struct{})
	s.Add(Func(fn, func(ctx context.Context, _ net.Listener) error {
		close(served)
		<-ctx.Done()
		return nil
	}))
	ctx, stop := context.WithCancel(t.Context())
	g, ctx := errgroup.WithContext(ctx)
	s.Serve(ctx, g)
	<-served
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+web.Addr().String(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(rep.Body)
	rep.Body.Close()
	if err != nil || string(text) != "here" {
		t.Errorf("%q, %v", text, err)
	}
	stop()
	if err := g.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
	s.Close()

	var unserved Set
	lis := open()
	unserved.Add(Func(lis, nil))
	unserved.Close()
	if _, err := lis.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
}

// TestStopBeforeServe: a signal may end an agent before a server's goroutine ran, which
// is no failure of it.
func TestStopBeforeServe(t *testing.T) {
	for name, of := range map[string]func(net.Listener) Endpoint{
		"http": func(l net.Listener) Endpoint { return HTTP("metrics", l, http.NotFoundHandler()) },
		"grpc": func(l net.Listener) Endpoint { return GRPC("admin", l, grpc.NewServer()) },
	} {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		e := of(lis)
		e.stop()
		if err := e.serve(t.Context(), lis); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := lis.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the socket is open: %v", name, err)
		}
	}
}

// TestServeFails: an endpoint that cannot serve ends the others, and names
// itself.
func TestServeFails(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lis.Close()
	for name, e := range map[string]Endpoint{"metrics": HTTP("metrics", lis, nil), "admin": GRPC("admin", lis, grpc.NewServer())} {
		var s Set
		s.Add(e)
		g, ctx := errgroup.WithContext(t.Context())
		s.Serve(ctx, g)
		if err := g.Wait(); err == nil || !strings.HasPrefix(err.Error(), "serve "+name+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
