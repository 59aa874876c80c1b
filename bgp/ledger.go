package bgp

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// noEORGrace is how long a session without graceful restart is taken to be
// still sending its routes: such a peer sends no End-of-RIB.
const noEORGrace = 5 * time.Second

// ledger keeps what happened to every session: its state, its last error and
// which End-of-RIB markers came. It learns from the engine's peer events and
// session events.
type ledger struct {
	now func() time.Time
	// limited receives peers that exceeded their prefix limit; peerEvent
	// sends, nobody closes; full means that one more retry is dropped, which
	// the next event of the peer repeats.
	limited chan netip.Addr

	mu        sync.Mutex // guards all below and what it points to
	peers     map[netip.Addr]*record
	strangers map[netip.Addr]*stranger
	byID      map[idOf]map[netip.Addr]bool // sessions of our AS that are up
	faults    Faults                       // of all peers, also of those forgotten
}

// record is the history of one session.
type record struct {
	state     string
	since     time.Time // when the session came up; while it is down, when it was lost or first wanted
	flaps     int
	lastError string
	errorAt   time.Time
	faults    Faults
	malformed string          // what was wrong with the message that ends the session
	usesEOR   bool            // graceful restart negotiated: End-of-RIB will come
	waitEOR   map[Family]bool // families carried whose End-of-RIB has not come
	families  []Family        // offered by us
	internal  bool            // the session is with our AS
	reasons
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

// forget drops the history of a removed peer.
func (l *ledger) forget(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.peers[addr]; r != nil {
		l.unlistLocked(addr, r)
	}
	delete(l.peers, addr)
}

// forgetSome drops the records that gone names when there are more than limit.
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

// failure is why a session failed.
type failure struct {
	text   string
	ends   bool // it ended an established session
	silent bool // nothing was heard of the peer
}

// failed notes why the session to addr failed.
func (l *ledger) failed(addr netip.Addr, text string) { l.fails(addr, failure{text: text}) }

// fails notes a failure. That of no peer is left alone: it has no record.
func (l *ledger) fails(addr netip.Addr, f failure) {
	if !addr.IsValid() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recordLocked(addr).note(f, l.now())
}

// sent notes a NOTIFICATION that we sent, with what was wrong with the message
// that it answers.
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

// note takes a failure.
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

// peerChange is a change of a session's state.
type peerChange struct {
	addr    netip.Addr
	state   string
	limited bool    // held down by the engine: too many prefixes
	carries carried // when established
}

// peerChange takes a state change of the engine. It runs on the watcher
// goroutine and must not block.
func (l *ledger) peerChange(c peerChange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.recordLocked(c.addr)
	if c.limited {
		r.fail("maximum number of prefixes exceeded, the session is held down", l.now())
		select {
		case l.limited <- c.addr:
		default:
		}
	}
	if c.state == r.state {
		return
	}
	was := r.state
	r.state = c.state
	r.waitEOR = nil
	switch {
	case c.state == established:
		r.since = l.now()
		r.opened(c.carries)
		r.openedBy(c.carries.id, l.now())
		l.listLocked(c.addr, r)
	case was == established:
		r.since = l.now()
		r.flaps++
		r.ownID, r.foreign = "", nil
		l.unlistLocked(c.addr, r)
	}
}

// opened notes what the session that came up carries.
func (r *record) opened(c carried) {
	r.families, r.usesEOR, r.internal = c.families, c.usesEOR, c.internal
	r.waitEOR = make(map[Family]bool, len(c.families))
	for _, f := range c.families {
		r.waitEOR[f] = true
	}
}

// endOfRIB takes an End-of-RIB marker (RFC 4724 section 2).
func (l *ledger) endOfRIB(peer netip.Addr, f Family) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.recordLocked(peer).waitEOR, f)
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
	idle        = "Idle"
	established = "Established"
)

// stateName returns the name RFC 4271 section 8.2.2 gives to a state.
func stateName(s api.PeerState_SessionState) string {
	switch s {
	case api.PeerState_CONNECT:
		return "Connect"
	case api.PeerState_ACTIVE:
		return "Active"
	case api.PeerState_OPENSENT:
		return "OpenSent"
	case api.PeerState_OPENCONFIRM:
		return "OpenConfirm"
	case api.PeerState_ESTABLISHED:
		return established
	default:
		return idle
	}
}

// familyOf returns our name of an engine's family, 0 for one we do not speak.
func familyOf(f bgp.RouteFamily) Family {
	switch f {
	case bgp.RF_IPv4_UC:
		return IPv4
	case bgp.RF_IPv6_UC:
		return IPv6
	default:
		return 0
	}
}
