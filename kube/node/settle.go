package node

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	timer *time.Timer
	// missing are the kinds that the API server did not have, until their next list:
	// what was deleted before the end of a kind is no person's deletion.
	missing map[string]bool
}

// settled is one kind of object.
type settled struct {
	kind  string
	waits func() bool // a deletion has not taken effect
	// ends reports whether such deletions leave no object of the kind, and when the last
	// was.
	ends func() (last time.Time, ok bool)
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

// listed notes that the objects of a kind are known anew.
func (s *settling) listed(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.missing, kind)
}

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
	kinds := s.kinds
	s.mu.Unlock()
	ready := slices.DeleteFunc(slices.Clone(kinds), func(k settled) bool { return !k.waits() })
	if len(ready) == 0 {
		return
	}
	var rest time.Duration
	for _, k := range ready {
		if last, ok := k.ends(); ok { // its own last one: deletions of others do not put it off
			rest = max(rest, time.Until(last.Add(emptyQuiet)))
		}
	}
	if rest > 0 {
		s.again(rest)
		return
	}
	if slices.ContainsFunc(ready, func(k settled) bool { return !s.served(k) }) {
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

// served reports whether the API server serves a kind, and did since its last list.
func (s *settling) served(k settled) bool {
	s.mu.Lock()
	missing := s.missing[k.kind]
	s.mu.Unlock()
	if missing {
		return false
	}
	err := k.serves()
	if apierrors.IsNotFound(err) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.missing == nil {
			s.missing = map[string]bool{}
		}
		s.missing[k.kind] = true
	}
	return err == nil
}
