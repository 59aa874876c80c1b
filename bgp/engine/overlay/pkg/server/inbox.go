// Part of the patch fanout/one-inbox.

package server

import (
	"sync"
	"time"
)

// inboxBatch is how many messages of one peer are handled before the next
// peer has its turn.
const inboxBatch = 16

// What may wait of one peer, in messages and in bytes as they came (decoded
// they are some fifty times as large), before its connection is read no further.
const (
	incomingMessages = 64
	incomingBytes    = 64 << 10
)

// incomingPatience is how often a receiver that waits says so.
const incomingPatience = time.Second

// inbox is the one queue between the peers' goroutines and the server's. It
// stands for a channel per peer, over which the server had to select: with a
// thousand peers that was some 100 us and 40 kB for every message.
type inbox struct {
	mu    sync.Mutex // guards ready, and all but box and room of every incoming
	ready []*incoming
	// wake has room for one signal: put sends, nobody closes; full means that
	// the server has been told and has not looked yet.
	wake chan struct{}
}

// incoming is one peer's part of the inbox: its messages, in order.
type incoming struct {
	box    *inbox
	items  []*fsmMsg
	bytes  int  // of items
	queued bool // it is in box.ready
	closed bool // the peer is gone: messages are dropped
	// room has space for one signal, that there is room again: the server
	// sends, nobody closes; full means that the receiver does not wait.
	room chan struct{}
}

func newInbox() *inbox {
	return &inbox{wake: make(chan struct{}, 1)}
}

// newIncoming returns a peer's part of the inbox.
func (b *inbox) newIncoming() *incoming {
	return &incoming{box: b, room: make(chan struct{}, 1)}
}

// putWhenRoom queues a message when there is room for it, so that a peer that
// says more than can be dealt with is read no faster than that. It calls
// waiting now and then meanwhile, and gives up when gone is closed.
func (q *incoming) putWhenRoom(m *fsmMsg, gone <-chan struct{}, waiting func()) {
	var tick *time.Ticker
	for !q.hasRoom() {
		if tick == nil {
			tick = time.NewTicker(incomingPatience)
			defer tick.Stop()
		}
		select {
		case <-gone:
			return
		case <-q.room:
		case <-tick.C:
			waiting()
		}
	}
	q.put(m)
}

func (q *incoming) hasRoom() bool {
	q.box.mu.Lock()
	defer q.box.mu.Unlock()
	return q.closed || len(q.items) < incomingMessages && q.bytes < incomingBytes
}

// put queues a message. It never blocks.
func (q *incoming) put(m *fsmMsg) {
	b := q.box
	b.mu.Lock()
	defer b.mu.Unlock()
	if q.closed {
		return
	}
	q.items = append(q.items, m)
	q.bytes += len(m.payload)
	if q.queued {
		return
	}
	q.queued = true
	b.ready = append(b.ready, q)
	b.signal()
}

// signal wakes the server, also when nothing is queued.
func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// close drops what is queued and what will be put.
func (q *incoming) close() {
	q.box.mu.Lock()
	defer q.box.mu.Unlock()
	q.closed, q.items, q.bytes = true, nil, 0
	q.signalRoom()
}

func (q *incoming) signalRoom() {
	select {
	case q.room <- struct{}{}:
	default:
	}
}

// take removes the next messages. The caller holds box.mu.
func (q *incoming) take() []*fsmMsg {
	batch := q.items
	if len(batch) > inboxBatch {
		batch = q.items[:inboxBatch:inboxBatch]
		q.items = q.items[inboxBatch:]
	} else {
		q.items = nil
	}
	for _, m := range batch {
		q.bytes -= len(m.payload)
	}
	q.signalRoom()
	return batch
}

func (q *incoming) isClosed() bool {
	q.box.mu.Lock()
	defer q.box.mu.Unlock()
	return q.closed
}

// next returns the next messages of the peer whose turn it is, nil when there
// are none.
func (b *inbox) next() (*incoming, []*fsmMsg) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.ready) > 0 {
		q := b.ready[0]
		b.ready[0] = nil
		b.ready = b.ready[1:]
		batch := q.take()
		if len(q.items) > 0 {
			b.ready = append(b.ready, q)
			return q, batch
		}
		q.queued = false
		if len(batch) > 0 {
			return q, batch
		}
	}
	return nil, nil
}
