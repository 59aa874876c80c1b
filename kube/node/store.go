package node

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

const (
	// quiet is how long no object of a kind may be deleted until the deletions
	// before take effect: the agent's guard must judge a mass deletion as a whole,
	// and step by step each step is small.
	quiet = 2 * time.Second
	// longestQuiet bounds the delay of a deletion while others go on.
	longestQuiet = 10 * time.Second
)

// store has the objects of one watch, trimmed. It is what a reflector fills: a
// relist that fails calls nothing here, so the objects stay. A deletion takes
// effect after a while without others; a new object of the name undoes it.
type store[T metav1.Object] struct {
	kind string
	trim func(T) // removes from a new object what is not read
	// deferred reports whether the deletion of an object may wait. Nil: always.
	deferred func(gone T, rest map[string]T) bool
	// changed is called after every change, with the deletion that it is or a zero one.
	// That of a deletion is called with the lock: who sees the objects gone finds the
	// deletion noted.
	changed func(deletion)
	settle  *settling // decides when deletions take effect; nil: the store by itself

	mu       sync.Mutex // guards all below
	items    map[string]T
	listed   bool            // the first list has arrived
	leaving  map[string]bool // deleted, and still in items
	first    time.Time       // the first deletion in leaving
	last     time.Time       // the last one
	expiry   *time.Timer     // ends the wait; nil: none runs
	restarts int             // lists after the first
}

// deletion is the removal of objects of one kind.
type deletion struct {
	kind  string
	names []string
	at    time.Time
	// seen: each object's own deletion was seen. Otherwise a list came without
	// them, as an emptied database or a re-created CRD makes one.
	seen bool
	// emptied: no object of the kind is left.
	emptied bool
}

var _ cache.TransformingStore = (*store[metav1.Object])(nil)

func newStore[T metav1.Object](kind string, trim func(T), changed func(deletion)) *store[T] {
	return &store[T]{kind: kind, trim: trim, changed: changed, items: map[string]T{}, leaving: map[string]bool{}}
}

func key(o metav1.Object) string {
	if ns := o.GetNamespace(); ns != "" {
		return ns + "/" + o.GetName()
	}
	return o.GetName()
}

// Transformer implements cache.TransformingStore.
func (s *store[T]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		o, ok := obj.(T)
		if !ok {
			return nil, fmt.Errorf("a watch of %s delivered a %T", s.kind, obj)
		}
		s.strip(o)
		return o, nil
	}
}

// strip also removes the resource version, so that objects that differ in
// nothing that is read are equal.
func (s *store[T]) strip(o T) {
	o.SetManagedFields(nil)
	o.SetResourceVersion("")
	if s.trim != nil {
		s.trim(o)
	}
}

// Add implements cache.ReflectorStore.
func (s *store[T]) Add(obj any) error { return s.Update(obj) }

// Update implements cache.ReflectorStore.
func (s *store[T]) Update(obj any) error {
	if _, err := s.Transformer()(obj); err != nil {
		return err
	}
	o, _ := obj.(T) // the transformer has checked the type
	s.mu.Lock()
	old, had := s.items[key(o)]
	same := had && equality.Semantic.DeepEqual(old, o)
	delete(s.leaving, key(o))
	s.items[key(o)] = o
	s.mu.Unlock()
	if !same {
		s.changed(deletion{})
	}
	return nil
}

// Delete implements cache.ReflectorStore.
func (s *store[T]) Delete(obj any) error {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	o, ok := obj.(T)
	if !ok {
		return fmt.Errorf("a watch of %s delivered a %T", s.kind, obj)
	}
	k, now := key(o), time.Now()
	s.mu.Lock()
	if _, had := s.items[k]; !had {
		s.mu.Unlock()
		return nil
	}
	if s.deferred != nil && !s.deferred(s.items[k], s.items) {
		delete(s.items, k)
		s.mu.Unlock()
		s.changed(deletion{})
		return nil
	}
	if len(s.leaving) == 0 {
		s.first = now
	}
	s.leaving[k], s.last = true, now
	if s.settle != nil {
		s.mu.Unlock()
		s.settle.deleted()
		return nil
	}
	wait := min(quiet, time.Until(s.first.Add(longestQuiet)))
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.expiry = time.AfterFunc(max(wait, 0), s.expire)
	s.mu.Unlock()
	return nil
}

// waits reports whether deletions have not taken effect yet.
func (s *store[T]) waits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.leaving) > 0
}

// ends reports whether such deletions leave no object, and when the last was.
func (s *store[T]) ends() (last time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, len(s.leaving) == len(s.items)
}

// expire removes the objects that are leaving.
func (s *store[T]) expire() {
	s.mu.Lock()
	d := deletion{kind: s.kind, names: slices.Sorted(maps.Keys(s.leaving)), at: time.Now(), seen: true}
	for k := range s.leaving {
		delete(s.items, k)
	}
	clear(s.leaving)
	d.emptied = len(s.items) == 0
	if len(d.names) > 0 {
		s.changed(d)
	}
	s.mu.Unlock()
}

// Replace implements cache.ReflectorStore.
func (s *store[T]) Replace(list []any, _ string) error {
	next := make(map[string]T, len(list))
	for _, obj := range list {
		if _, err := s.Transformer()(obj); err != nil {
			return err
		}
		o, _ := obj.(T) // the transformer has checked the type
		next[key(o)] = o
	}
	if s.settle != nil {
		defer s.settle.listed(s.kind) // after what was leaving is out of the way
		s.settle.view.Lock()
		defer s.settle.view.Unlock()
	}
	s.mu.Lock()
	d := deletion{kind: s.kind, at: time.Now(), emptied: len(next) == 0}
	for k := range s.items {
		if _, ok := next[k]; !ok {
			d.names = append(d.names, k)
		}
	}
	if s.listed {
		s.restarts++
	}
	s.items, s.listed = next, true
	clear(s.leaving)
	slices.Sort(d.names)
	if len(d.names) == 0 {
		d = deletion{}
	}
	s.changed(d)
	s.mu.Unlock()
	return nil
}

// Resync implements cache.ReflectorStore; there is no second copy to compare.
func (s *store[T]) Resync() error { return nil }

// synced reports whether the first list has arrived.
func (s *store[T]) synced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listed
}

// relists returns how often the watch had to list again.
func (s *store[T]) relists() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restarts
}

// list returns the objects in the order of their names. They must not be written
// to.
func (s *store[T]) list() []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]T, 0, len(s.items))
	for _, k := range slices.Sorted(maps.Keys(s.items)) {
		out = append(out, s.items[k])
	}
	return out
}

// get returns one object, which must not be written to, and false without it.
func (s *store[T]) get(name string) (T, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.items[name]
	return o, ok
}
