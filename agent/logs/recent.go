package logs

import (
	"bytes"
	"io"
	"sync"
)

// recentSize bounds the latest lines: some 800 of them.
const recentSize = 128 << 10 // bytes

// Recent keeps the latest lines of a log. The zero value is ready.
type Recent struct {
	mu   sync.Mutex
	ring []byte // guarded by mu; made at the first line
	next int    // guarded by mu; where the next byte goes
	full bool   // guarded by mu; the ring was written around
}

// Write implements [io.Writer]. It never fails.
func (r *Recent) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ring == nil {
		r.ring = make([]byte, recentSize)
	}
	rest := line[max(0, len(line)-recentSize):]
	for len(rest) > 0 {
		n := copy(r.ring[r.next:], rest)
		rest = rest[n:]
		if r.next += n; r.next == recentSize {
			r.next, r.full = 0, true
		}
	}
	return len(line), nil
}

// WriteTo implements [io.WriterTo]: it writes the whole lines that are kept, oldest
// first. The log does not wait for w.
func (r *Recent) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(r.text())
	return int64(n), err
}

// text returns a copy of the lines.
func (r *Recent) text() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.full {
		return bytes.Clone(r.ring[:r.next])
	}
	all := append(bytes.Clone(r.ring[r.next:]), r.ring[:r.next]...)
	_, whole, _ := bytes.Cut(all, []byte("\n")) // the first line has lost its beginning
	return whole
}

var _ io.WriterTo = (*Recent)(nil)
