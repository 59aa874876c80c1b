package client

import (
	"net/http"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// firstTime bounds how long a request waits for another one's connection.
const firstTime = time.Second

// first lets one request at a time go ahead of all others until one has an answer: the
// others then use its connection. Of requests that begin together each would open one of
// its own (HTTP/2 shares a connection once it is open), ten TLS handshakes for every node
// that starts. A request that fails has no connection to share, so that the turn goes to
// another one: a process that starts while the API server is away opens one connection
// too when the server comes back.
type first struct {
	next http.RoundTripper
	turn chan struct{} // holds a value while no request goes ahead
	done chan struct{} // closed by the first answer
	once sync.Once     // closes done
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
	default:
	}
	limit := time.NewTimer(firstTime) // for all turns of others together
	defer limit.Stop()
	select {
	case <-f.done:
		return f.next.RoundTrip(r)
	case <-f.turn:
		defer func() { f.turn <- struct{}{} }()
	case <-limit.C: // a connection that hangs must not hold back others
	case <-r.Context().Done():
	}
	answer, err := f.next.RoundTrip(r)
	if err == nil {
		f.once.Do(func() { close(f.done) })
	}
	return answer, err
}

// WrappedRoundTripper implements utilnet.RoundTripperWrapper.
func (f *first) WrappedRoundTripper() http.RoundTripper { return f.next }
