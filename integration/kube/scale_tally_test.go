package kube

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// tally counts the requests of one client and the events of its watches.
type tally struct {
	next http.RoundTripper

	mu       sync.Mutex // guards all below
	requests map[string]int
	events   int
}

func newTally() *tally { return &tally{requests: map[string]int{}} }

// wrap is rest.Config.WrapTransport.
func (t *tally) wrap(next http.RoundTripper) http.RoundTripper {
	t.next = next
	return t
}

// values are those of a selector.
var values = regexp.MustCompile(`=[^,]*`)

// describe names a request: the verb, the resource, and what the request selects. Names
// of objects are left out.
func describe(r *http.Request) string {
	verb := map[string]string{http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete", http.MethodGet: "get"}[r.Method]
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if parts[0] == "api" {
		parts = parts[min(2, len(parts)):] // api/v1
	} else {
		parts = parts[min(3, len(parts)):] // apis/GROUP/VERSION
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	if len(parts) == 0 {
		return verb + " " + r.URL.Path
	}
	q := r.URL.Query()
	if r.Method == http.MethodGet && len(parts) == 1 {
		verb = "list"
		if q.Get("watch") != "" {
			verb = "watch"
		}
	}
	words := []string{verb, parts[0]}
	if len(parts) > 2 {
		words[1] += "/" + strings.Join(parts[2:], "/")
	}
	for _, key := range []string{"fieldSelector", "labelSelector"} {
		if v := q.Get(key); v != "" {
			words = append(words, "by", values.ReplaceAllString(v, "="))
		}
	}
	text := strings.Join(words, " ")
	if q.Get("limit") == "1" {
		text += ", one"
	}
	return text
}

// RoundTrip implements http.RoundTripper.
func (t *tally) RoundTrip(r *http.Request) (*http.Response, error) {
	name := describe(r)
	t.mu.Lock()
	t.requests[name]++
	t.mu.Unlock()
	resp, err := t.next.RoundTrip(r)
	if err == nil && strings.HasPrefix(name, "watch ") && resp.StatusCode == http.StatusOK {
		resp.Body = &frames{ReadCloser: resp.Body, t: t, lines: !strings.Contains(resp.Header.Get("Content-Type"), "protobuf")}
	}
	return resp, err
}

// frames counts the events of a watch: lines of JSON, or frames of protobuf with their
// length in front.
type frames struct {
	io.ReadCloser

	t     *tally
	lines bool
	head  []byte
	left  uint32 // bytes of the present frame
}

func (f *frames) Read(b []byte) (int, error) {
	n, err := f.ReadCloser.Read(b)
	count := 0
	for rest := b[:n]; len(rest) > 0; {
		switch {
		case f.lines:
			count += strings.Count(string(rest), "\n")
			rest = nil
		case f.left > 0:
			step := min(int(f.left), len(rest))
			f.left -= uint32(step) //nolint:gosec // not above left
			rest = rest[step:]
		default:
			f.head = append(f.head, rest[0])
			rest = rest[1:]
			if len(f.head) == 4 {
				f.left, f.head = binary.BigEndian.Uint32(f.head), f.head[:0]
				count++
			}
		}
	}
	if count > 0 {
		f.t.mu.Lock()
		f.t.events += count
		f.t.mu.Unlock()
	}
	return n, err
}

// figures is what a client, or all clients, did up to a moment.
type figures struct {
	requests      map[string]int
	events        int
	read, written int64
}

func (t *tally) figures(w *wire) figures {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := figures{requests: map[string]int{}, events: t.events, read: w.read.Load(), written: w.written.Load()}
	maps.Copy(f.requests, t.requests)
	return f
}

// add adds the figures of another client.
func (f *figures) add(o figures) {
	if f.requests == nil {
		f.requests = map[string]int{}
	}
	for name, n := range o.requests {
		f.requests[name] += n
	}
	f.events += o.events
	f.read += o.read
	f.written += o.written
}

// minus returns what happened since an earlier moment.
func (f figures) minus(o figures) figures {
	out := figures{requests: map[string]int{}, events: f.events - o.events, read: f.read - o.read, written: f.written - o.written}
	for name, n := range f.requests {
		if n -= o.requests[name]; n > 0 {
			out.requests[name] = n
		}
	}
	return out
}

// total returns the number of requests.
func (f figures) total() (n int) {
	for _, count := range f.requests {
		n += count
	}
	return n
}

// String lists the requests.
func (f figures) String() string {
	var lines []string
	for name, n := range f.requests {
		lines = append(lines, fmt.Sprintf("%6d %s", n, name))
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[7:], b[7:]) })
	return strings.Join(lines, "\n")
}
