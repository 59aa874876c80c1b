// Part of the patch memory/buffered-reading.

package server

import (
	"io"
	"time"
)

// readSize is the buffer of an established session: many short messages are
// read at once, and a long one past it.
const readSize = 4 << 10

// processStart is what lastHeard counts from: time.Since uses the clock that
// nobody sets.
var processStart = time.Now()

// in returns what messages are read from.
func (h *fsmHandler) in() io.Reader {
	if h.reader != nil {
		return h.reader
	}
	return h.conn
}

// heard notes that the peer is alive. The hold timer is not touched for every
// message: when it runs out it asks how long the peer has been silent.
func (h *fsmHandler) heard() {
	h.lastHeard.Store(int64(time.Since(processStart)))
}

// silence returns how long ago the peer was heard last.
func (h *fsmHandler) silence() time.Duration {
	return time.Since(processStart) - time.Duration(h.lastHeard.Load())
}
