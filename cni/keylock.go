package cni

import (
	"context"
	"sync"
)

// keyLock is a mutex for each of a changing set of keys.
type keyLock struct {
	mu   sync.Mutex
	keys map[string]*keyState // guarded by mu; only keys in use
}

type keyState struct {
	held chan struct{} // capacity 1; holds a value while locked
	uses int           // holders and waiters; guarded by keyLock.mu
}

// lock waits for the key until ctx is cancelled and returns its unlock.
func (l *keyLock) lock(ctx context.Context, key string) (func(), error) {
	l.mu.Lock()
	s := l.keys[key]
	if s == nil {
		s = &keyState{held: make(chan struct{}, 1)}
		if l.keys == nil {
			l.keys = map[string]*keyState{}
		}
		l.keys[key] = s
	}
	s.uses++
	l.mu.Unlock()

	select {
	case s.held <- struct{}{}:
		return func() { <-s.held; l.drop(key, s) }, nil
	case <-ctx.Done():
		l.drop(key, s)
		return nil, ctx.Err()
	}
}

func (l *keyLock) drop(key string, s *keyState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.uses--; s.uses == 0 {
		delete(l.keys, key)
	}
}
