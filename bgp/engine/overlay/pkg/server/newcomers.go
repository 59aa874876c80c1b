// Part of the patch restart/peer-restarts.

package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// A peer that connects while it has a session, or is about to have one, may have
// restarted without a word: the session is dead then, and would keep the peer away
// until the hold time is over. Anybody who can use the peer's address may connect,
// though. So the new connection is greeted beside the session, and replaces it
// when a valid OPEN of this peer has come in:
//
//   - in Established if both the session and the new OPEN have graceful restart,
//     and the OPEN has the peer's identifier (RFC 4724 section 5). The session
//     before is closed silently, and its routes are stale. Without graceful
//     restart the session stays (RFC 4271 section 6.8). Another identifier is
//     another speaker behind the address, and two of them must not take turns.
//   - before, if the peer itself opened both: it has given the first one up.

const (
	// newcomerLimit is how many connections are greeted at once.
	newcomerLimit = 4
)

// earlyOpen is a connection on which both OPENs have been sent.
type earlyOpen struct {
	conn     net.Conn
	read     []byte // the peer's OPEN
	sent     []byte // our OPEN
	id       net.IP
	as       uint32
	restarts bool // it has the Graceful Restart capability
}

// newcomers are the connections that are greeted.
type newcomers struct {
	// ready has room for one: greet sends, after it has taken out the one before;
	// nobody closes it.
	ready chan *earlyOpen

	mu      sync.Mutex // guards all below, and sending to ready
	conns   []net.Conn
	stopped bool
}

func newNewcomers() *newcomers {
	return &newcomers{ready: make(chan *earlyOpen, 1)}
}

// add takes a connection in, for the oldest one if there are too many.
func (r *newcomers) add(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return false
	}
	if len(r.conns) == newcomerLimit {
		r.conns[0].Close()
		r.conns = r.conns[1:]
	}
	r.conns = append(r.conns, conn)
	return true
}

// done hands a greeted connection on; nil: it was refused.
func (r *newcomers) done(conn net.Conn, e *earlyOpen) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = slices.DeleteFunc(r.conns, func(c net.Conn) bool { return c == conn })
	if e == nil || r.stopped {
		conn.Close()
		return
	}
	select {
	case old := <-r.ready:
		old.conn.Close()
	default:
	}
	r.ready <- e
}

// stop closes all of them for good.
func (r *newcomers) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	for _, c := range r.conns {
		c.Close()
	}
	select {
	case e := <-r.ready:
		e.conn.Close()
	default:
	}
}

// another deals with a connection beside the one of the handler.
func (h *fsmHandler) another(conn net.Conn) {
	if h.mayYield(conn) && h.fsm.newcomers.add(conn) {
		go func() {
			h.fsm.newcomers.done(conn, h.fsm.greet(conn))
		}()
		return
	}
	h.fsm.collided(conn)
	h.closedAnother()
}

func (h *fsmHandler) closedAnother() {
	h.fsm.lock.RLock()
	defer h.fsm.lock.RUnlock()
	h.fsm.logger.Debug("Closed an accepted connection",
		log.Fields{
			"Topic": "Peer",
			"Key":   h.fsm.pConf.State.NeighborAddress,
			"State": h.fsm.state.String()})
}

// mayYield reports whether the handler's connection could be replaced by conn.
func (h *fsmHandler) mayYield(conn net.Conn) bool {
	h.fsm.lock.RLock()
	defer h.fsm.lock.RUnlock()
	switch {
	case !h.fsm.accepted(conn):
		return false // dialled before the session was there
	case h.fsm.state == bgp.BGP_FSM_ESTABLISHED:
		return h.fsm.pConf.GracefulRestart.State.Enabled
	}
	return h.fsm.accepted(h.conn)
}

// accepted reports whether the peer opened a connection. The caller holds the
// lock.
func (fsm *fsm) accepted(conn net.Conn) bool {
	_, port := hostport(conn.LocalAddr())
	return int32(port) == fsm.gConf.Config.Port
}

// outdone reports whether e replaces the handler's connection. If not, e is
// closed as RFC 4271 section 6.8 says.
func (h *fsmHandler) outdone(e *earlyOpen) bool {
	fsm := h.fsm
	fsm.lock.RLock()
	same := fsm.peerInfo.AS == e.as && fsm.peerInfo.ID.Equal(e.id)
	ok := same || fsm.state == bgp.BGP_FSM_OPENSENT // whose peer is not known yet
	if fsm.state == bgp.BGP_FSM_ESTABLISHED {
		ok = same && e.restarts && fsm.pConf.GracefulRestart.State.Enabled
	}
	fsm.lock.RUnlock()
	if ok {
		fsm.tell(sessionEvent{Kind: "connected-anew", AS: e.as, ID: addrOf(e.id)})
	} else {
		fsm.outbid(e)
		h.closedAnother()
	}
	return ok
}

// goOnWith makes e the connection of the next session.
func (fsm *fsm) goOnWith(e *earlyOpen) {
	fsm.lock.Lock()
	defer fsm.lock.Unlock()
	if fsm.early != nil {
		fsm.early.conn.Close()
	}
	fsm.early = e
}

// earlyConn returns the connection to go on with, nil if there is none.
func (fsm *fsm) earlyConn() net.Conn {
	fsm.lock.Lock()
	defer fsm.lock.Unlock()
	if fsm.early == nil {
		return nil
	}
	if fsm.adminState != adminStateUp {
		fsm.early.conn.Close()
		fsm.early = nil
		return nil
	}
	return fsm.early.conn
}

// takeEarly returns what has been read from a connection before its session.
func (fsm *fsm) takeEarly(conn net.Conn) *earlyOpen {
	fsm.lock.Lock()
	defer fsm.lock.Unlock()
	e := fsm.early
	fsm.early = nil
	if e != nil && e.conn != conn {
		e.conn.Close()
		e = nil
	}
	return e
}

// dropEarly closes what no session will use.
func (fsm *fsm) dropEarly() {
	fsm.newcomers.stop()
	fsm.takeEarly(nil)
}

// greet exchanges OPENs on a connection. nil: it is not one of this peer, which
// has been told so.
func (fsm *fsm) greet(conn net.Conn) (e *earlyOpen) {
	defer func() {
		if r := recover(); r != nil {
			fsm.contained(r, &bgp.BGPHeader{Type: bgp.BGP_MSG_OPEN})
			e = nil
		}
	}()
	fsm.prepare(conn)
	fsm.lock.Lock()
	b, err := buildopen(fsm.gConf, fsm.pConf).Serialize()
	limit := time.Duration(fsm.opensentHoldTime) * time.Second
	fsm.lock.Unlock()
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(limit))
	}
	if err == nil {
		_, err = conn.Write(b)
	}
	if err == nil {
		e, err = fsm.readOpen(conn)
	}
	if err == nil {
		e.sent = b
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		sayGoodbye(conn, err)
		return nil
	}
	return e
}

// errNotOpen is for a peer that begins with something else.
var errNotOpen = bgp.NewMessageError(bgp.BGP_ERROR_FSM_ERROR, bgp.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_OPENSENT_STATE, nil, "no OPEN")

// readOpen reads the peer's OPEN and judges it.
func (fsm *fsm) readOpen(conn net.Conn) (*earlyOpen, error) {
	e := &earlyOpen{conn: conn, read: make([]byte, bgp.BGP_HEADER_LENGTH)}
	if _, err := io.ReadFull(conn, e.read); err != nil {
		return nil, fmt.Errorf("read header: %w", err)
	}
	hd := &bgp.BGPHeader{}
	if err := bgp.CheckHeader(e.read); err != nil {
		return nil, err
	}
	if err := hd.DecodeFromBytes(e.read); err != nil {
		return nil, err
	}
	if hd.Type != bgp.BGP_MSG_OPEN {
		return nil, errNotOpen
	}
	body := make([]byte, int(hd.Len)-len(e.read))
	if _, err := io.ReadFull(conn, body); err != nil {
		return nil, fmt.Errorf("read OPEN: %w", err)
	}
	e.read = append(e.read, body...)
	if err := bgp.CheckOpen(body); err != nil {
		return nil, err
	}
	m, err := bgp.ParseBGPBody(hd, body)
	if err != nil {
		return nil, err
	}
	open := m.Body.(*bgp.BGPOpen)
	fsm.lock.RLock()
	defer fsm.lock.RUnlock()
	if e.as, err = bgp.ValidateOpenMsg(open, fsm.pConf.Config.PeerAs, fsm.peerInfo.LocalAS, net.ParseIP(fsm.gConf.Config.RouterId)); err != nil {
		return nil, err
	}
	caps, _ := open2Cap(open, fsm.pConf)
	e.id, e.restarts = open.ID, len(caps[bgp.BGP_CAP_GRACEFUL_RESTART]) > 0
	return e, nil
}

// sayGoodbye closes a connection that is no session's, with a NOTIFICATION if
// there is something to say.
func sayGoodbye(conn net.Conn, err error) {
	var e *bgp.MessageError
	if !errors.As(err, &e) {
		conn.Close()
		return
	}
	b, _ := bgp.NewBGPNotificationMessage(e.TypeCode, e.SubTypeCode, e.Data).Serialize()
	if conn.SetWriteDeadline(time.Now().Add(notificationTime)) == nil {
		conn.Write(b)
	}
	closeAfterNotification(conn)
}
