package glass

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"onlink/agent/endpoint"
	"onlink/agent/explain"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/ipam"
	"onlink/rib"
)

// bed is an agent as the page sees it: it has what the test has put there.
type bed struct {
	mu         sync.Mutex
	snapshot   *state.Snapshot // guarded by mu
	usesOf     []rib.Use
	routesOf   []rib.Route
	failed     map[netip.Prefix]string
	prefixes   []netip.Prefix
	candidates []bgp.Candidate
	details    map[netip.Addr]bgp.PeerDetail
	nodes      []ipam.Node
	explain    func(context.Context, explain.Question) (explain.Result, error)
	asked      int   // guarded by mu; readings of the uses
	err        error // guarded by mu; of every part
}

// Since implements state.Source.
func (b *bed) Since(context.Context, time.Time) (*state.Snapshot, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.snapshot, b.err
}

// failing returns the error of every part.
func (b *bed) failing() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// fail makes every part fail.
func (b *bed) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// put makes a snapshot the latest.
func (b *bed) put(s *state.Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Taken = time.Now()
	b.snapshot = s
}

// Detail implements Sessions.
func (b *bed) Detail(_ context.Context, peer netip.Addr) (bgp.PeerDetail, error) {
	d, ok := b.details[peer]
	if !ok {
		return d, fmt.Errorf("%w: %s", bgp.ErrUnknownPeer, peer)
	}
	return d, b.failing()
}

// Prefixes implements Sessions.
func (b *bed) Prefixes(_ context.Context, within netip.Prefix) (out []netip.Prefix, err error) {
	for _, p := range b.prefixes {
		if within.Overlaps(p) {
			out = append(out, p)
		}
	}
	return out, b.failing()
}

// Candidates implements Sessions.
func (b *bed) Candidates(context.Context, netip.Prefix) ([]bgp.Candidate, error) {
	return b.candidates, b.failing()
}

// known returns the names of nodes.
func (b *bed) known() (explain.Known, bool) { return explain.Known{Nodes: b.nodes}, b.nodes != nil }

// handler returns the page of the bed.
func (b *bed) handler() http.Handler {
	if b.snapshot == nil {
		b.put(&state.Snapshot{Node: state.Node{Name: "r1n1", Address: ip("10.57.1.11")}})
	}
	return New(Config{
		Log: slog.New(slog.DiscardHandler), Board: b, Sessions: b, Explain: b.explain,
		Known: b.known,
		Uses: func(context.Context, int) ([]rib.Use, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.asked++
			return b.usesOf, b.err
		},
		Routes: func(_ context.Context, each func(rib.Route, string)) error {
			for _, r := range b.routesOf {
				each(r, b.failed[r.Prefix])
			}
			return b.failing()
		},
	})
}

// site is the page as the agent serves it.
type site struct {
	t  *testing.T
	at string // address:port
}

// serve serves the page until the test ends.
func (b *bed) serve(t *testing.T) site {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(lis.Addr().String())
	lis.Close()
	m := endpoint.NewMovable("api.glass", endpoint.Bounds{All: 64, Each: 64, Unsent: 256 << 10}, slog.New(slog.DiscardHandler), b.handler())
	if err := m.Set(at); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return site{t, at.String()}
}

// get returns the code and body of a path; 0 after an error, which fails the test. It
// may be called from any goroutine.
func (s site) get(path string, header ...string) (int, string) {
	s.t.Helper()
	rep, err := s.request(http.MethodGet, path, header...)
	if err != nil {
		s.t.Error(err)
		return 0, ""
	}
	defer rep.Body.Close()
	text, err := io.ReadAll(rep.Body)
	if err != nil {
		s.t.Error(err)
	}
	return rep.StatusCode, string(text)
}

// do returns the answer to a request, whose body the caller closes.
func (s site) do(method, path string, header ...string) *http.Response {
	s.t.Helper()
	rep, err := s.request(method, path, header...)
	if err != nil {
		s.t.Fatal(err)
	}
	return rep
}

// request makes a request with headers, as name and value in turn; "Host" is one too.
func (s site) request(method, path string, header ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.at+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(header); i += 2 {
		if req.Header.Set(header[i], header[i+1]); header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return client.Do(req)
}

// ask reads the answer of a path into v.
func (s site) ask(path string, v any) {
	s.t.Helper()
	code, text := s.get(path, askHeader, "1")
	if code != http.StatusOK {
		s.t.Fatalf("%s: %d %s", path, code, text)
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		s.t.Fatal(err)
	}
}

// refused requires that a path is refused with a code and a text.
func (s site) refused(path string, code int, want string, header ...string) {
	s.t.Helper()
	got, text := s.get(path, header...)
	var v struct{ Error string }
	if err := json.Unmarshal([]byte(text), &v); err != nil || got != code || !strings.Contains(v.Error, want) {
		s.t.Errorf("%s: %d %s, want %d with %q", path, got, text, code, want)
	}
}

// event is one of a stream.
type event struct{ name, data string }

// follow opens a stream, and returns its events.
func (s site) follow(ctx context.Context, query string) <-chan event {
	s.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.at+"/api/live"+query, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	rep, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	if rep.StatusCode != http.StatusOK || rep.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("the stream is answered with %s", rep.Status)
	}
	out := make(chan event)
	go func() {
		defer close(out)
		defer rep.Body.Close()
		for text := ""; ; {
			buf := make([]byte, 4096)
			n, err := rep.Body.Read(buf)
			text += string(buf[:n])
			for {
				one, rest, whole := strings.Cut(text, "\n\n")
				if !whole {
					break
				}
				text = rest
				name, data, _ := strings.Cut(strings.TrimPrefix(one, "event: "), "\ndata: ")
				select {
				case out <- event{name, data}:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}

// next returns the next event of a name.
func next(t *testing.T, events <-chan event, name string, v any) {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatalf("the stream ended before an event %s", name)
			}
			if e.name != name {
				continue
			}
			if err := json.Unmarshal([]byte(e.data), v); err != nil {
				t.Fatal(err)
			}
			return
		case <-late:
			t.Fatalf("no event %s", name)
		}
	}
}

var errPart = errors.New("this part of the agent is out of order")

func ip(s string) netip.Addr           { return netip.MustParseAddr(s) }
func pfx(s string) netip.Prefix        { return netip.MustParsePrefix(s) }
func peer(s bgp.PeerStatus) state.Peer { return state.Peer{PeerStatus: s} }
