package client

import (
	"errors"
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

// TestFirstFails: while requests fail they go one after the other, and the first that has
// an answer opens the way for all: a process that started while the API server was away
// opens one connection when the server comes back.
func TestFirstFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const requests = 10
		var flying, most, calls int
		var mu sync.Mutex // guards the numbers
		away := errors.New("connection refused")
		var serves atomic.Bool
		f := newFirst(roundTripper(func(*http.Request) (*http.Response, error) {
			mu.Lock()
			flying++
			calls++
			most = max(most, flying)
			mu.Unlock()
			up := serves.Load()
			time.Sleep(firstTime / 100) // of the synctest bubble: a round trip
			mu.Lock()
			flying--
			mu.Unlock()
			if !up {
				return nil, away
			}
			return &http.Response{Body: http.NoBody}, nil
		}))
		together := func(want error) {
			var wg sync.WaitGroup
			for range requests {
				wg.Go(func() {
					answer, err := f.RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
					if !errors.Is(err, want) {
						t.Errorf("got the error %v, want %v", err, want)
					}
					if err == nil {
						if err := answer.Body.Close(); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
		}
		together(away)
		if most != 1 || calls != requests {
			t.Errorf("%d calls, %d of them at once, want %d and 1", calls, most, requests)
		}
		serves.Store(true)
		calls = 0
		began := time.Now()
		together(nil)
		if most != requests-1 { // all but the first, which has ended by then
			t.Errorf("%d calls at once after the first answer, want %d", most, requests-1)
		}
		if took := time.Since(began); calls != requests || took != 2*firstTime/100 {
			t.Errorf("%d calls took %s, want the others to wait for one alone", calls, took)
		}
	})
}

// TestFirstEnds: turns that are handed on hold a request back for a second in all.
func TestFirstEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		away := errors.New("no route to host")
		f := newFirst(roundTripper(func(*http.Request) (*http.Response, error) {
			time.Sleep(firstTime * 2 / 3) // of the synctest bubble
			return nil, away
		}))
		began := time.Now()
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				answer, err := f.RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
				if err == nil {
					t.Error("no error", answer.Body.Close())
				}
				if took := time.Since(began); took > firstTime+firstTime*2/3 {
					t.Errorf("a request took %s", took)
				}
			})
		}
		wg.Wait()
	})
}
