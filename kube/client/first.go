package client

import (
	"net/http"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// firstTime bounds how long requests wait for the first one.
const firstTime = time.Second

// first lets one request go ahead of all others, which then use its connection: of
// requests that begin together each would open one of its own (HTTP/2 shares a
// connection once it is open), ten TLS handshakes for every node when the API server
// has come back and is busiest.
type first struct {
	next http.RoundTripper
	turn chan struct{} // holds a value until the first request takes it
	done chan struct{} // closed when that has its answer, or an error
}

var _ utilnet.RoundTripperWrapper = (*first)(nil)

func newFirst(next http.RoundTripper) *first {
	f := &first{next: next, turn: make(chan struct{}, 1), done: make(chan struct{})}
	f.turn <- struct{}{}
	return f
}

// RoundTrip implements http.RoundTripper.
func (f *first) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-f.done:
		return f.next.RoundTrip(r)
	case <-f.turn:
		defer close(f.done)
		return f.next.RoundTrip(r)
	default:
	}
	limit := time.NewTimer(firstTime)
	defer limit.Stop()
	select {
	case <-f.done:
	case <-limit.C: // a connection that hangs must not hold back others
	case <-r.Context().Done():
	}
	return f.next.RoundTrip(r)
}

// WrappedRoundTripper implements utilnet.RoundTripperWrapper.
func (f *first) WrappedRoundTripper() http.RoundTripper { return f.next }
