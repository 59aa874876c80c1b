package bgp

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// noEORGrace is how long a session without graceful restart is taken to be
// still sending its routes: such a peer sends no End-of-RIB.
const noEORGrace = 5 * time.Second

// ledger keeps what happened to every session: its state, its last error and
// which End-of-RIB markers came. It learns from the engine's peer events and
// from its log (the engine tells the reason of a failure only there).
type ledger struct {
	now func() time.Time
	// limited receives peers that exceeded their prefix limit; peerEvent
	// sends, nobody closes; full means that one more retry is dropped, which
	// the next event of the peer repeats.
	limited chan netip.Addr

	mu    sync.Mutex // guards the map and what it points to
	peers map[netip.Addr]*record
}

// record is the history of one session.
type record struct {
	retold bool // told everything again since the session came up; see retell

	state     string
	since     time.Time
	flaps     int
	lastError string
	errorAt   time.Time
	usesEOR   bool            // graceful restart negotiated: End-of-RIB will come
	waitEOR   map[Family]bool // families carried whose End-of-RIB has not come
	families  []Family        // offered by us
}

func newLedger() *ledger {
	return &ledger{now: time.Now, limited: make(chan netip.Addr, 64), peers: make(map[netip.Addr]*record)}
}

// recordLocked returns the record of addr, made when absent.
func (l *ledger) recordLocked(addr netip.Addr) *record {
	r := l.peers[addr]
	if r == nil {
		r = &record{state: "Idle", since: l.now()}
		l.peers[addr] = r
	}
	return r
}

// forget drops the history of a removed peer.
func (l *ledger) forget(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.peers, addr)
}

// get returns a copy of the record of addr.
func (l *ledger) get(addr netip.Addr) record {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.peers[addr]; r != nil {
		c := *r
		c.waitEOR = maps.Clone(r.waitEOR)
		return c
	}
	return record{state: "Idle"}
}

// failed notes why the session to addr failed.
func (l *ledger) failed(addr netip.Addr, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.recordLocked(addr)
	r.lastError, r.errorAt = text, l.now()
}

// peerEvent takes a state change of the engine. It runs on the watcher
// goroutine and must not block.
func (l *ledger) peerEvent(ev *apiutil.WatchEventMessage_PeerEvent, _ time.Time) {
	if ev == nil || ev.Type == apiutil.PEER_EVENT_END_OF_INIT || !ev.Peer.State.NeighborAddress.IsValid() {
		return
	}
	addr := ev.Peer.State.NeighborAddress.Unmap()
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.recordLocked(addr)
	if ev.Peer.State.AdminState == api.PeerState_ADMIN_STATE_PFX_CT {
		r.lastError, r.errorAt = "maximum number of prefixes exceeded, the session is held down", l.now()
		select {
		case l.limited <- addr:
		default:
		}
	}
	name := stateName(ev.Peer.State.SessionState)
	if name == r.state {
		return
	}
	was := r.state
	r.state, r.since = name, l.now()
	r.retold = false
	if name == established {
		r.opened(ev.Peer.State)
		return
	}
	r.waitEOR = nil
	if was == established {
		r.flaps++
		r.reason(ev.Peer.State, l.now())
	}
}

// opened notes what the session that came up carries.
func (r *record) opened(st apiutil.PeerState) {
	local, remote := familiesOf(st.LocalCap), familiesOf(st.RemoteCap)
	if len(remote) == 0 {
		remote = []Family{IPv4} // RFC 4760 section 8: no capability means IPv4 unicast
	}
	r.waitEOR = make(map[Family]bool)
	r.families = nil
	for _, f := range local {
		if slices.Contains(remote, f) {
			r.waitEOR[f] = true
			r.families = append(r.families, f)
		}
	}
	r.usesEOR = slices.ContainsFunc(st.RemoteCap, func(c bgp.ParameterCapabilityInterface) bool {
		return c.Code() == bgp.BGP_CAP_GRACEFUL_RESTART
	})
}

// reason notes why an established session ended, unless the log told it
// better a moment ago (the NOTIFICATION, the TCP error).
func (r *record) reason(st apiutil.PeerState, now time.Time) {
	if now.Sub(r.errorAt) < time.Second {
		return
	}
	text := strings.ReplaceAll(st.DisconnectMessage, "-", " ")
	switch st.DisconnectReason {
	case api.PeerState_DISCONNECT_REASON_GRACEFUL_RESTART, api.PeerState_DISCONNECT_REASON_READ_FAILED:
		text = "the peer closed the connection without a NOTIFICATION"
	case api.PeerState_DISCONNECT_REASON_WRITE_FAILED:
		text = "writing to the peer did not succeed"
	case api.PeerState_DISCONNECT_REASON_HOLD_TIMER_EXPIRED:
		text = "hold timer expired: nothing heard from the peer"
	default: // the engine's own words
	}
	r.lastError, r.errorAt = text, now
}

// endOfRIB takes an End-of-RIB marker (RFC 4724 section 2).
func (l *ledger) endOfRIB(p *apiutil.Path, _ time.Time) {
	if p == nil || !p.PeerAddress.IsValid() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.recordLocked(p.PeerAddress.Unmap())
	delete(r.waitEOR, familyOf(p.Family))
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

// established is the name of the state in which routes are exchanged.
const established = "Established"

// stateName returns the name RFC 4271 section 8.2.2 gives to a state.
func stateName(s bgp.FSMState) string {
	switch s {
	case bgp.BGP_FSM_IDLE:
		return "Idle"
	case bgp.BGP_FSM_CONNECT:
		return "Connect"
	case bgp.BGP_FSM_ACTIVE:
		return "Active"
	case bgp.BGP_FSM_OPENSENT:
		return "OpenSent"
	case bgp.BGP_FSM_OPENCONFIRM:
		return "OpenConfirm"
	case bgp.BGP_FSM_ESTABLISHED:
		return established
	}
	return "Idle"
}

// familiesOf returns the families of a list of capabilities.
func familiesOf(caps []bgp.ParameterCapabilityInterface) []Family {
	var list []Family
	for _, c := range caps {
		if mp, ok := c.(*bgp.CapMultiProtocol); ok {
			if f := familyOf(mp.CapValue); f != 0 {
				list = append(list, f)
			}
		}
	}
	return list
}

// familyOf returns our name of an engine's family, 0 for one we do not speak.
func familyOf(f bgp.Family) Family {
	switch f {
	case bgp.RF_IPv4_UC:
		return IPv4
	case bgp.RF_IPv6_UC:
		return IPv6
	default:
		return 0
	}
}
