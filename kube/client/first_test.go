package client

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestOneConnection: requests that begin together share one connection.
func TestOneConnection(t *testing.T) {
	t.Parallel()
	const requests = 20
	var connections, arrived atomic.Int64
	all := make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		switch arrived.Add(1) {
		case 1:
			return
		case requests:
			close(all)
		}
		select { // together: none may follow on the connection of one that has ended
		case <-all:
		case <-r.Context().Done():
		}
	}))
	s.EnableHTTP2 = true
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.StartTLS()
	defer s.Close()
	c := s.Client()
	c.Transport = newFirst(c.Transport)
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
			if err != nil {
				t.Error(err)
				return
			}
			answer, err := c.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			if err := answer.Body.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := connections.Load(); n != 1 {
		t.Errorf("%d requests opened %d connections, want 1", requests, n)
	}
}

// roundTripper is a function as an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestFirstHangs: a first request without an answer holds the others back for a
// second, and after that none.
func TestFirstHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		hangs := make(chan struct{})
		f := newFirst(roundTripper(func(*http.Request) (*http.Response, error) {
			calls++
			if calls == 1 {
				<-hangs
			}
			return &http.Response{Body: http.NoBody}, nil
		}))
		began := time.Now()
		call := func() {
			answer, err := f.RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
			if err != nil {
				t.Error(err)
				return
			}
			if err := answer.Body.Close(); err != nil {
				t.Error(err)
			}
		}
		go call()
		synctest.Wait()
		call()
		if waited := time.Since(began); waited != firstTime {
			t.Errorf("the second request waited for %s, want %s", waited, firstTime)
		}
		close(hangs)
		synctest.Wait()
		call()
		if waited := time.Since(began); waited != firstTime {
			t.Errorf("a request waited after the first had its answer: %s in all", waited)
		}
	})
}
