package admin

import (
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Bounds of what is under way at once.
const (
	maxCalls     = 64 // on one socket
	maxCallsEach = 16 // of one user or certificate
	maxHeavy     = 4  // large answers being made on one socket
	// maxWatchers bounds the readers of the status stream, and maxWatchersEach those
	// of one user or certificate.
	maxWatchers     = 16
	maxWatchersEach = 8
)

// bound counts what callers have under way, and refuses what is too much: of one
// caller, so that it does not use up what the others need, and of all.
type bound struct {
	what      string
	all, each int

	mu  sync.Mutex
	sum int            // guarded by mu; without root's
	of  map[string]int // guarded by mu
}

func newBound(what string, all, each int) *bound {
	return &bound{what: what, all: all, each: each, of: map[string]int{}}
}

// begin counts one more, until end is called. The calls of others never keep root
// out.
func (b *bound) begin(v *visitor) (end func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.of[v.key] >= b.each:
		return nil, b.full(fmt.Sprintf("%s has %d %s under way, which is the limit", v.name, b.each, b.what))
	case b.sum >= b.all && !v.root:
		return nil, b.full(fmt.Sprintf("%d %s are under way, which is the limit", b.all, b.what))
	}
	b.of[v.key]++
	if !v.root {
		b.sum++
	}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !v.root {
			b.sum--
		}
		if b.of[v.key]--; b.of[v.key] == 0 {
			delete(b.of, v.key)
		}
	}, nil
}

func (*bound) full(text string) error {
	return status.Error(codes.ResourceExhausted, text+": end one, or try again later")
}
