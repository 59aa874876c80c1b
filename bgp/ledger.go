package bgp

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"onlink/bgp/gobgp"
)

// noEORGrace is how long the first dump of a peer without graceful restart is
// taken to last: such a peer sends no End-of-RIB.
const noEORGrace = 5 * time.Second

// ledger keeps the history of every session: its state, its last error and the
// End-of-RIB markers received. It receives the engine's peer events and session
// events.
type ledger struct {
	now func() time.Time
	// limited receives peers that exceeded their prefix limit; peerChange
	// sends, and it is never closed. When it is full a retry is dropped, which
	// the next event of the peer repeats.
	limited chan netip.Addr

	mu        sync.Mutex // guards all below and the records
	peers     map[netip.Addr]*record
	strangers map[netip.Addr]*stranger
	byID      map[idOf]map[netip.Addr]bool // sessions of our AS that are up
	faults    Faults                       // of all peers, removed ones included
}

// record is the history of one session.
type record struct {
	state     string
	since     time.Time // when the session came up; while it is down, when it was lost or added
	flaps     int
	lastError string
	errorAt   time.Time
	faults    Faults
	malformed string          // fault of the message that ends the session
	usesEOR   bool            // graceful restart negotiated: End-of-RIB will come
	waitEOR   map[Family]bool // families carried whose End-of-RIB has not come
	families  []Family        // offered by us
	internal  bool            // the session is with our AS
	seen      bool            // the session was up
	past
	reasons
}

// past is the part of a record about the last session's end.
type past struct {
	had  Loss // routes at the end
	kept bool // they are kept for the peer's restart (RFC 4724)
	over bool // the end was reported, and the change of state was not yet
}

// reasons is the part of a record about the ends of its session.
type reasons struct {
	lost string // the reason of an Established session's last end; "" after a new one
	// explained: lost was recorded before the engine reported the session's end.
	explained bool
	silent    bool // with the newest error: no packet of the peer arrived
	collided  bool // the newest error is a collision: another connection became the session
	told      map[string]time.Time
	ids       []netip.Addr // router IDs of the last sessions, the newest last
	idAt      time.Time    // when the newest came
	clash     string       // text about two speakers at one address
	clashAt   time.Time
	foreign   map[netip.Prefix]netip.Addr // next hops of others' paths with our router ID
	ownID     string                      // text about them, once confirmed
}

func newLedger() *ledger {
	return &ledger{
		now: time.Now, limited: make(chan netip.Addr, 64),
		peers: make(map[netip.Addr]*record), strangers: make(map[netip.Addr]*stranger),
		byID: make(map[idOf]map[netip.Addr]bool),
	}
}

// recordLocked returns the record of addr, made when absent.
func (l *ledger) recordLocked(addr netip.Addr) *record {
	r := l.peers[addr]
	if r == nil {
		r = &record{state: idle, since: l.now()}
		l.peers[addr] = r
	}
	return r
}

// forget drops the record of a removed peer.
func (l *ledger) forget(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.peers[addr]; r != nil {
		l.unlistLocked(addr, r)
	}
	delete(l.peers, addr)
}

// forgetSome drops the records for which gone returns true, when there are more
// than limit.
func (l *ledger) forgetSome(limit int, gone func(netip.Addr, *record) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.peers) <= limit {
		return
	}
	maps.DeleteFunc(l.peers, gone)
}

// get returns a copy of the record of addr.
func (l *ledger) get(addr netip.Addr) record {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.peers[addr]; r != nil {
		c := *r
		c.waitEOR, c.ids = maps.Clone(r.waitEOR), slices.Clone(r.ids)
		c.told, c.foreign = nil, nil
		return c
	}
	return record{state: idle}
}

// failure is the reason of a session's failure.
type failure struct {
	text   string
	ends   bool // it ended an established session
	silent bool // no packet of the peer arrived
}

// failed records the reason of a failure of the session to addr.
func (l *ledger) failed(addr netip.Addr, text string) { l.fails(addr, failure{text: text}) }

// fails records a failure; that of an invalid address is ignored.
func (l *ledger) fails(addr netip.Addr, f failure) {
	if !addr.IsValid() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recordLocked(addr).note(f, l.now())
}

// sent records a NOTIFICATION that we sent, with the fault of the message that it
// answers.
func (l *ledger) sent(addr netip.Addr, n notification, f failure) {
	if !addr.IsValid() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.recordLocked(addr)
	if n.fault == "" {
		n.fault = r.malformed
	}
	f.text = sentNotification + n.words()
	r.note(f, l.now())
}

// note records a failure.
func (r *record) note(f failure, now time.Time) {
	r.malformed = ""
	r.fail(printable(f.text), now)
	r.silent = f.silent
	if f.ends {
		r.lost, r.explained = r.lastError, true
	}
}

// fail sets the newest error.
func (r *record) fail(text string, now time.Time) {
	r.lastError, r.errorAt, r.collided, r.silent = text, now, false, false
}

// done reports whether the session is up and its first dump complete.
func (r *record) done(now time.Time) bool {
	if r.state != established {
		return false
	}
	if !r.usesEOR {
		return now.Sub(r.since) >= noEORGrace
	}
	return len(r.waitEOR) == 0
}

// The names of the first and the last state; in the last, routes are exchanged.
const (
	idle        = gobgp.Idle
	established = gobgp.Established
)

// idOf is a router ID among the sessions over one IP version: one node may have
// a session over each.
type idOf struct {
	id  netip.Addr
	is4 bool
}

// listLocked adds a session that came up to those with its router ID.
func (l *ledger) listLocked(addr netip.Addr, r *record) {
	if !r.internal || !r.id().IsValid() {
		return
	}
	key := idOf{r.id(), addr.Is4()}
	if l.byID[key] == nil {
		l.byID[key] = map[netip.Addr]bool{}
	}
	l.byID[key][addr] = true
}

func (l *ledger) unlistLocked(addr netip.Addr, r *record) {
	key := idOf{r.id(), addr.Is4()}
	delete(l.byID[key], addr)
	if len(l.byID[key]) == 0 {
		delete(l.byID, key)
	}
}

// fault counts a fault of a peer; why is its text. The zero Addr means no peer.
func (l *ledger) fault(addr netip.Addr, kind func(*Faults) *uint64, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*kind(&l.faults)++
	if !addr.IsValid() {
		return
	}
	r := l.recordLocked(addr)
	*kind(&r.faults)++
	if kind(&r.faults) == &r.faults.Reset {
		r.malformed = why
	}
}

// each calls fn with every record.
func (l *ledger) each(fn func(netip.Addr, *record)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for addr, r := range l.peers {
		fn(addr, r)
	}
}

// anyEstablished reports whether a session is up.
func (l *ledger) anyEstablished() bool {
	up := false
	l.each(func(_ netip.Addr, r *record) { up = up || r.state == established })
	return up
}

// total returns the faults of all peers, removed ones included.
func (l *ledger) total() Faults {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.faults
}
