package node

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// settling makes deletions of several kinds take effect together, after a while without
// another one of any of them: of objects that are all deleted at once the agent's guard
// must judge the whole. The loss of the only peer is small by itself.
type settling struct {
	ring func() // after objects went

	// view is held while objects go: who reads several kinds sees all of them gone or none.
	view sync.RWMutex

	mu    sync.Mutex // guards all below
	kinds []settled
	first time.Time // the first deletion that waits; zero: none does
	last  time.Time // the last deletion
	timer *time.Timer
}

// settled is one kind of object.
type settled struct {
	waits func() bool // a deletion has not taken effect
	ends  func() bool // such deletions leave no object of the kind
	// serves returns an error unless the API server has the kind: the end of a kind
	// deletes its objects first, one by one.
	serves func() error
	take   func() // makes the deletions take effect
}

// add adds a kind.
func (s *settling) add(k settled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kinds = append(s.kinds, k)
}

// deleted notes a deletion.
func (s *settling) deleted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.last = now
	if s.first.IsZero() {
		s.first = now
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	s.timer = time.AfterFunc(max(min(quiet, s.first.Add(longestQuiet).Sub(now)), 0), s.expire)
}

// emptyQuiet is how long the deletion of the last object of a kind waits: the end of a
// CRD deletes its objects first, and looks 5 s later whether they are gone.
const emptyQuiet = 8 * time.Second

// relook is when kinds that the API server did not serve are looked at again, at the
// latest twice that: all nodes do it.
const relook = 15 * time.Second

// again looks again after a time unless a deletion comes before.
func (s *settling) again(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first.IsZero() {
		s.timer = time.AfterFunc(after, s.expire)
	}
}

// expire makes the deletions take effect, but not while the API server does not serve
// one of their kinds: a list without objects follows once it does, and is no person's
// deletion.
func (s *settling) expire() {
	s.mu.Lock()
	s.first = time.Time{}
	kinds, rest := s.kinds, time.Until(s.last.Add(emptyQuiet))
	s.mu.Unlock()
	ready := slices.DeleteFunc(slices.Clone(kinds), func(k settled) bool { return !k.waits() })
	switch {
	case len(ready) == 0:
		return
	case rest > 0 && slices.ContainsFunc(ready, func(k settled) bool { return k.ends() }):
		s.again(rest)
		return
	case slices.ContainsFunc(ready, func(k settled) bool { return k.serves() != nil }):
		s.again(relook + rand.N(relook)) //nolint:gosec // it spreads load, and keeps no secret
		return
	}
	s.view.Lock()
	for _, k := range ready {
		k.take()
	}
	s.view.Unlock()
	s.ring()
}
