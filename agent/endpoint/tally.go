package endpoint

import "sync"

// Bounds are those of what callers have open at once, such as the connections of one
// socket.
type Bounds struct {
	All  int // without root's at a unix socket, which has as many again
	Each int // of one address, or of one user at a unix socket; root has All
	// Unsent is how many bytes the kernel keeps of a TCP connection whose other end does
	// not read; 0: as many as tcp(7) says of tcp_wmem, usually 4 MiB. Until so many wait,
	// a write to it returns at once, and its reader does not show as slow.
	Unsent int
}

// rootKey is the caller that others cannot keep out.
const rootKey = "uid 0"

// Tally counts what callers have open, and refuses what is beyond the bounds.
type Tally struct {
	bounds Bounds

	mu  sync.Mutex
	of  map[string]int // guarded by mu; by caller
	sum int            // guarded by mu; without root's
}

// NewTally returns a tally in which nothing is open.
func NewTally(b Bounds) *Tally { return &Tally{bounds: b, of: map[string]int{}} }

// Begin counts one more of a caller, until [Tally.End]; false: there may not be one
// more.
func (t *Tally) Begin(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	each, full := t.bounds.Each, t.sum >= t.bounds.All
	if key == rootKey {
		each, full = t.bounds.All, false
	}
	if full || t.of[key] >= each {
		return false
	}
	t.of[key]++
	if key != rootKey {
		t.sum++
	}
	return true
}

// End counts one less of a caller that has one.
func (t *Tally) End(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if key != rootKey {
		t.sum--
	}
	if t.of[key]--; t.of[key] == 0 {
		delete(t.of, key)
	}
}

// Count returns how many a caller has open, and how many all have without root.
func (t *Tally) Count(key string) (of, all int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.of[key], t.sum
}
