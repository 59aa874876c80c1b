// Part of the patch hooks/session-events.

package server

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"time"

	"github.com/osrg/gobgp/v3/internal/pkg/table"
	"github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// sessionEvent is what happened to a connection or to a message. It is an alias
// of a struct without a name so that a logger can have the method below without
// this package. Its Kind is one of these:
//
//	connect-failed         a dial; Err
//	refused                a connection that was not used; Reason
//	md5-refused            the kernel took no TCP MD5 key for the peer; Err
//	notification-sent      Code, Subcode, Data; Err, if a message was malformed
//	notification-received  Code, Subcode, Data; of an established session
//	send-failed            the connection could not be written to; Err
//	send-hold-expired      the peer reads nothing (RFC 9687); Err
//	connected-anew         a new connection replaces the session; AS, ID
//	ended                  the connection of a session, or of one on its way; Reason
//	malformed              a message that ends the session; Err
//	treated-as-withdraw    an UPDATE, as RFC 7606 says; Err
//	attributes-discarded   of an UPDATE, as RFC 7606 says; Err
//	ignored                an UPDATE of which nothing is for the session; Err
//	panic                  caught over a peer's message, or without Peer; Err, Stack
//	withheld               a route that no message to the peer can hold; Err
//	own-originator         a path with our ORIGINATOR_ID, which is not used
//	routes-left            the routes that an established session had at its end;
//	                       Received, Accepted, Prefixes
type sessionEvent = struct {
	Kind  string
	Peer  netip.Addr
	Local netip.Addr   // the address of ours that the peer used
	State bgp.FSMState // of the session before
	// Reason is, of one that ended, the name of a state reason; of a refused
	// one: "unknown", "disabled", "limit", "address", "collision", "busy".
	Reason        string
	Code, Subcode uint8 // of the NOTIFICATION received or sent, if any
	Data          []byte
	Err           error // of the connection or the message
	Stack         string
	// AS and ID are of the OPEN that a refused peer sent; zero without one.
	AS uint32
	ID netip.Addr
	// SessionID is the identifier of the speaker that the session is with.
	SessionID netip.Addr
	// Prefix is of a path with our ORIGINATOR_ID, and of one that is withheld.
	Prefix  netip.Prefix
	NextHop netip.Addr // of a path with our ORIGINATOR_ID
	Source  netip.Addr // of a path that is withheld: who announced it; invalid: we
	// Received and Accepted count the routes of a session that ended; Prefixes are
	// the lowest of the accepted ones, at most namedPrefixes.
	Received, Accepted int
	Prefixes           []netip.Prefix
}

// namedPrefixes bounds the routes that are named at the end of a session.
const namedPrefixes = 16

// sessionLogger is what a logger may implement besides. SessionEvent is called
// from the goroutines of sessions and of the server: it must not block, and must
// not call the server.
type sessionLogger interface {
	SessionEvent(sessionEvent)
}

func tellSession(l log.Logger, e sessionEvent) {
	if to, ok := l.(sessionLogger); ok {
		to.SessionEvent(e)
	}
}

// tell tells of the peer of fsm, whose lock must not be held.
func (fsm *fsm) tell(e sessionEvent) {
	fsm.lock.RLock()
	e.Peer = addrOfText(fsm.pConf.State.NeighborAddress)
	if e.State == bgp.BGP_FSM_IDLE {
		e.State = fsm.state
	}
	fsm.lock.RUnlock()
	tellSession(fsm.logger, e)
}

// panicEvent is for a panic that was caught by the caller's caller.
func panicEvent(panicked any) sessionEvent {
	return sessionEvent{Kind: "panic", Err: fmt.Errorf("%v", panicked), Stack: string(debug.Stack())}
}

const (
	// refusedTime is how long a refused peer may take to say who it is.
	refusedTime = time.Second
	// refusedAtOnce is how many are asked at once: anybody can connect.
	refusedAtOnce = 16
)

var refusals = make(chan struct{}, refusedAtOnce)

// refuse closes a connection that is not used. It waits a moment for the peer's
// OPEN, to know who it was, and says why (RFC 4486).
func refuse(l log.Logger, conn net.Conn, e sessionEvent) {
	e.Kind = "refused"
	e.Peer, e.Local = addrOfConn(conn.RemoteAddr()), addrOfConn(conn.LocalAddr())
	select {
	case refusals <- struct{}{}:
	default:
		conn.Close()
		tellSession(l, e)
		return
	}
	go func() {
		defer func() { <-refusals }()
		conn.SetDeadline(time.Now().Add(refusedTime))
		if !e.ID.IsValid() {
			e.AS, e.ID, e.Err = readOpen(conn)
		}
		code := uint8(bgp.BGP_ERROR_SUB_CONNECTION_REJECTED)
		switch {
		case e.Reason == "disabled":
			code = bgp.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN
		case e.Reason == "limit":
			code = bgp.BGP_ERROR_SUB_MAXIMUM_NUMBER_OF_PREFIXES_REACHED
		case e.Reason == "busy":
			code = bgp.BGP_ERROR_SUB_OUT_OF_RESOURCES
		case e.Reason == "collision" && (!e.ID.IsValid() || !e.SessionID.IsValid() || e.ID == e.SessionID):
			code = bgp.BGP_ERROR_SUB_CONNECTION_COLLISION_RESOLUTION
		}
		b, _ := bgp.NewBGPNotificationMessage(bgp.BGP_ERROR_CEASE, code, nil).Serialize()
		conn.SetDeadline(time.Now().Add(notificationTime))
		if _, err := conn.Write(b); err == nil {
			closeAfterNotification(conn)
		} else {
			conn.Close()
		}
		tellSession(l, e)
	}()
}

// readOpen returns what the first message of a connection says of its sender.
func readOpen(conn net.Conn) (as uint32, id netip.Addr, err error) {
	head, err := readAll(conn, bgp.BGP_HEADER_LENGTH)
	if err != nil {
		return 0, id, err
	}
	hd := &bgp.BGPHeader{}
	if err = bgp.CheckHeader(head); err == nil {
		err = hd.DecodeFromBytes(head)
	}
	if err != nil || hd.Type != bgp.BGP_MSG_OPEN {
		return 0, id, err
	}
	body, err := readAll(conn, int(hd.Len)-bgp.BGP_HEADER_LENGTH)
	if err == nil {
		err = bgp.CheckOpen(body)
	}
	if err != nil {
		return 0, id, err
	}
	defer func() { recover() }() // what is known by then is returned
	id, _ = netip.AddrFromSlice(body[5:9])
	as = uint32(body[1])<<8 | uint32(body[2])
	m, err := bgp.ParseBGPBody(hd, body)
	if err != nil {
		return as, id, nil
	}
	for _, p := range m.Body.(*bgp.BGPOpen).OptParams {
		if caps, ok := p.(*bgp.OptionParameterCapability); ok {
			for _, c := range caps.Capability {
				if four, ok := c.(*bgp.CapFourOctetASNumber); ok {
					as = four.CapValue
				}
			}
		}
	}
	return as, id, nil
}

// addrOfConn keeps the zone, by which link-local peers are told apart.
func addrOfConn(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	ap, _ := netip.ParseAddrPort(a.String())
	return ap.Addr().Unmap()
}

// addrOfText reads the address of a configuration; what is none is invalid.
func addrOfText(s string) netip.Addr {
	a, _ := netip.ParseAddr(s)
	return a.Unmap()
}

// collided refuses a connection beside the one that the session has.
func (fsm *fsm) collided(conn net.Conn) { fsm.refuseBeside(conn, sessionEvent{}) }

// outbid refuses one on which the peer has sent its OPEN.
func (fsm *fsm) outbid(o *earlyOpen) {
	fsm.refuseBeside(o.conn, sessionEvent{AS: o.as, ID: addrOf(o.id)})
}

func (fsm *fsm) refuseBeside(conn net.Conn, e sessionEvent) {
	fsm.lock.RLock()
	e.Reason, e.State = "collision", fsm.state
	if fsm.state == bgp.BGP_FSM_OPENCONFIRM || fsm.state == bgp.BGP_FSM_ESTABLISHED {
		e.SessionID = addrOf(fsm.peerInfo.ID)
	}
	fsm.lock.RUnlock()
	refuse(fsm.logger, conn, e)
}

// ended tells the end of a connection in one of the states that have one.
func (h *fsmHandler) ended(state bgp.FSMState, reason *fsmStateReason) {
	if state < bgp.BGP_FSM_OPENSENT || reason == nil {
		return
	}
	fsm := h.fsm
	fsm.lock.RLock()
	e := sessionEvent{Kind: "ended", State: state, Reason: fsmStateReason{Type: reason.Type}.name(), Err: h.readError}
	e.Peer = addrOfText(fsm.pConf.State.NeighborAddress)
	if fsm.conn != nil {
		e.Local = addrOfConn(fsm.conn.LocalAddr())
	}
	fsm.lock.RUnlock()
	if m := reason.BGPNotification; m != nil {
		if body, ok := m.Body.(*bgp.BGPNotification); ok {
			e.Code, e.Subcode, e.Data = body.ErrorCode, body.ErrorSubcode, body.Data
		}
	}
	tellSession(fsm.logger, e)
}

// tellRoutes tells which routes an established session has at its end, before they
// are dropped. It runs on the server's goroutine.
func (peer *peer) tellRoutes() {
	e := sessionEvent{Kind: "routes-left", State: bgp.BGP_FSM_ESTABLISHED}
	for _, family := range []bgp.RouteFamily{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC} {
		peer.adjRibIn.Each(family, func(p *table.Path) {
			e.Received++
			prefix := prefixOfNlri(p.GetNlri())
			if p.IsRejected() || p.IsRefused() || !prefix.IsValid() {
				return
			}
			e.Accepted++
			at, _ := slices.BinarySearchFunc(e.Prefixes, prefix, byPrefix)
			if at < namedPrefixes {
				e.Prefixes = slices.Insert(e.Prefixes, at, prefix)
				e.Prefixes = e.Prefixes[:min(len(e.Prefixes), namedPrefixes)]
			}
		})
	}
	peer.fsm.tell(e)
}

// byPrefix compares prefixes by address, then by length. netip has it from Go 1.26
// on, this module is of Go 1.23.
func byPrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// name is String without what a NOTIFICATION says.
func (r fsmStateReason) name() string {
	switch r.Type {
	case fsmNotificationSent:
		return "notification-sent"
	case fsmNotificationRecv:
		return "notification-received"
	}
	return r.String()
}
