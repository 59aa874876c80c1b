// Part of the patch fanout/update-groups.

package server

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// The members of an update group, and what each of them is told: see the head of
// outgroup.go.

// outMember is a peer in a group. Its place is guarded by the group's mutex:
// the peer's sender changes it under the read lock (it is the only one), the
// server under the write lock.
type outMember struct {
	// group is changed by the server, under the mutex of the group that the member
	// leaves; the sender reads it in held.
	group  atomic.Pointer[outGroup]
	peer   *peer
	out    *outPeer
	id     uint32 // the peer's router ID
	place  uint64 // the peer has been told everything up to here
	joined uint64 // withdrawals up to here are of no interest to it
	eor    bool   // End-of-RIB is due when it has been told everything
	// entered: what is withheld from the group has been named for it.
	entered bool
}

// outPeer is a session's memberships, one per family.
type outPeer struct {
	// wake has room for one signal: the server sends, nobody closes; full
	// means that the sender has not looked yet.
	wake chan struct{}

	mu      sync.Mutex // guards members
	members []*outMember
}

func newOutPeer() *outPeer {
	return &outPeer{wake: make(chan struct{}, 1)}
}

func (o *outPeer) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// member returns the membership for a family, nil if there is none.
func (o *outPeer) member(f bgp.RouteFamily) *outMember {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.members {
		if m.group.Load().key.family == f {
			return m
		}
	}
	return nil
}

// fill appends messages to buf and returns how many, and whether there is
// more to tell. It is for the session's sender.
func (o *outPeer) fill(buf []byte) (_ []byte, msgs int, more bool) {
	o.mu.Lock()
	members := o.members
	o.mu.Unlock()
	for _, m := range members {
		var n int
		var left bool
		buf, n, left = m.fill(buf)
		msgs += n
		more = more || left
		if len(buf) >= outChunk {
			return buf, msgs, true
		}
	}
	return buf, msgs, more
}

// tell is one thing a peer has to be told.
type tell struct {
	prefix outPrefix
	attrs  *outAttrs // nil: withdraw
}

// held returns the member's group, locked for reading. The group may be split while
// the sender waits for its mutex: a place in the group that the member has left would
// be one in another log, and what comes between would never be told.
func (m *outMember) held() *outGroup {
	for {
		g := m.group.Load()
		g.mu.RLock()
		if m.group.Load() == g {
			return g
		}
		g.mu.RUnlock()
	}
}

// fill appends messages of about outChunk bytes from the member's place on.
func (m *outMember) fill(buf []byte) (_ []byte, msgs int, more bool) {
	g := m.held()
	defer g.mu.RUnlock()
	for m.place < g.seq && len(buf) < outChunk {
		var n int
		if !g.several {
			buf, n, m.place = g.encode(buf, outChunk-len(buf), m.place, g.seq, m.due)
			msgs += n
			continue
		}
		p := g.piece(m.place)
		if len(buf) > 0 && len(buf)+len(p.buf) > outBuffer {
			break
		}
		if p.suits(m) {
			buf, n, m.place = append(buf, p.buf...), p.msgs, p.to
		} else {
			buf, n, m.place = g.encode(buf, outBuffer-len(buf), m.place, p.to, m.due)
		}
		msgs += n
	}
	more = m.place < g.seq
	if m.eor && !more {
		m.eor = false
		w := updateWriter{buf: buf, family: g.key.family}
		w.endOfRIB()
		buf, msgs = w.buf, msgs+w.msgs
	}
	return buf, msgs, more
}

// due returns what the member is to be told at a place of the log.
func (m *outMember) due(slot outSlot) (tell, bool) {
	e := slot.entry
	switch {
	case e == nil || e.seq != slot.seq:
		return tell{}, false
	case e.source != 0 && e.source == m.id:
		return tell{prefix: e.prefix}, e.displaced
	case e.attrs == nil:
		return tell{prefix: e.prefix}, e.seq > m.joined
	}
	return tell{prefix: e.prefix, attrs: e.attrs}, true
}

func (a *outAttrs) order() uint64 {
	if a == nil {
		return math.MaxUint64
	}
	return a.id
}
