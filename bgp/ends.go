package bgp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// sessionEvent is what a patched engine tells about connections, paths apart:
// an alias, because the engine names the type by its fields.
type sessionEvent = struct {
	Kind          string
	Peer          netip.Addr
	Local         netip.Addr
	State         bgp.FSMState
	Reason        string
	Code, Subcode uint8
	Data          []byte
	Err           error
	AS            uint32
	ID            netip.Addr
	SessionID     netip.Addr
	Prefix        netip.Prefix
	NextHop       netip.Addr
}

// self is what the reasons of failures need to know of this speaker.
type self struct {
	asn       uint32
	id        netip.Addr
	addresses []netip.Addr // next hops of what this node announces
}

// SessionEvent takes an event of the engine. It runs on the goroutines of
// sessions: it must not block and must not ask the engine.
func (b *logBridge) SessionEvent(e sessionEvent) {
	switch e.Kind {
	case "ended":
		b.ended(e)
	case "refused":
		b.refused(e)
	case "own-originator":
		b.ledger.ownOriginator(e, b.self)
	}
}

// ended takes the end of a connection in one of the states that have one.
// What ends an Established session, and what we found wrong with a message,
// the engine's log has told before.
func (b *logBridge) ended(e sessionEvent) {
	if e.State == bgp.BGP_FSM_ESTABLISHED {
		b.ledger.ended(e.Peer)
		b.report(e.Peer, e.Local)
		return
	}
	if text := b.self.endText(e); text != "" {
		b.ledger.failed(e.Peer, text)
	}
	if e.Reason == "notification-received" && e.Code == bgp.BGP_ERROR_CEASE && e.Subcode == bgp.BGP_ERROR_SUB_CONNECTION_COLLISION_RESOLUTION {
		b.ledger.collided(e.Peer)
	}
	b.report(e.Peer, e.Local)
}

// closedBeforeOpen is what a peer does that does not know this node.
const closedBeforeOpen = "connection closed by the peer before OPEN: is this node configured there, with this address?"

// endText says why a session did not come up, "" where it is known already.
func (s self) endText(e sessionEvent) string {
	waits := "before OPEN"
	if e.State == bgp.BGP_FSM_OPENCONFIRM {
		waits = "after OPEN, before KEEPALIVE"
	}
	switch e.Reason {
	case "read-failed":
		switch {
		case !closedByPeer(e.Err):
			return fmt.Sprintf("connection lost %s: %s", waits, bareError(e.Err))
		case e.State == bgp.BGP_FSM_OPENCONFIRM:
			return fmt.Sprintf("connection closed by the peer %s: it does not accept this node's OPEN (AS %d, router ID %s)", waits, s.asn, s.id)
		}
		return closedBeforeOpen
	case "notification-received":
		return s.receivedText(e)
	case "hold-timer-expired":
		silent := "the peer took the connection and " + noOpen
		if e.State == bgp.BGP_FSM_OPENCONFIRM {
			silent = "the peer sent OPEN and does not answer ours"
		}
		return fmt.Sprintf("%s%s: %s", sentNotification, notificationText(int(e.Code), int(e.Subcode)), silent)
	case "invalid-msg":
		if e.Code == 0 {
			return fmt.Sprintf("connection closed %s: the peer sent another message", waits)
		}
	}
	return ""
}

// receivedText says a NOTIFICATION that the peer sent instead of OPEN or
// KEEPALIVE, and what to look at.
func (s self) receivedText(e sessionEvent) string {
	d := details{code: int(e.Code), subcode: int(e.Subcode)}
	d.unwrap(e.Data)
	if d.code == bgp.BGP_ERROR_CEASE && d.reason == "" {
		d.reason = communicated(d.subcode, e.Data)
	}
	text := "received NOTIFICATION " + d.words()
	if hint := s.hint(d.code, d.subcode); hint != "" {
		text += ": " + hint
	}
	return text
}

// communicated returns the operator's text of a shutdown or reset (RFC 9003).
func communicated(subcode int, data []byte) string {
	if subcode != bgp.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN && subcode != bgp.BGP_ERROR_SUB_ADMINISTRATIVE_RESET || len(data) < 2 {
		return ""
	}
	return string(data[1:min(1+int(data[0]), len(data))])
}

// hint names what to compare at both ends after a NOTIFICATION from there.
func (s self) hint(code, subcode int) string {
	switch [2]int{code, subcode} {
	case [2]int{bgp.BGP_ERROR_OPEN_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_BAD_PEER_AS}:
		return fmt.Sprintf("it expects another AS than %d from this node", s.asn)
	case [2]int{bgp.BGP_ERROR_OPEN_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_BAD_BGP_IDENTIFIER}:
		return fmt.Sprintf("it does not accept this node's router ID %s: has it the same one?", s.id)
	case [2]int{bgp.BGP_ERROR_OPEN_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_UNSUPPORTED_CAPABILITY}:
		return "have both ends an address family in common?"
	case [2]int{bgp.BGP_ERROR_CEASE, bgp.BGP_ERROR_SUB_CONNECTION_REJECTED}:
		return "is this node configured there, with this address, and the only one that comes from it?"
	}
	return ""
}

// closedByPeer reports whether it was the other end that closed a connection,
// not the network in between.
func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// bareError is err without the ports of the connection, which differ at every
// attempt.
func bareError(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	return text(err)
}

// refused takes a connection that was not used.
func (b *logBridge) refused(e sessionEvent) {
	switch e.Reason {
	case "unknown":
		b.ledger.stranger(e)
		if why := b.ledger.newStranger(e.Peer); why != "" {
			b.out.Warn("connection refused", "peer", e.Peer, "local", e.Local, "why", why)
		}
		return
	case "busy":
		b.ledger.failed(e.Peer, "refused here: too many dynamic peers are on their way to a session")
	case "collision":
		if !e.ID.IsValid() || !e.SessionID.IsValid() || e.ID == e.SessionID {
			return // two connections of one speaker, of which one stays
		}
		b.ledger.several(e.Peer, fmt.Sprintf("refused another BGP speaker (AS %d, router ID %s) with the address of %s: several nodes behind one address, or two daemons on one",
			e.AS, e.ID, e.SessionID))
	default: // its own record or its hold says it
		return
	}
	b.report(e.Peer, e.Local)
}

// report writes the newest reason of a peer into the log, unless it is there.
func (b *logBridge) report(peer, local netip.Addr) {
	why := b.ledger.newReason(peer)
	if why == "" {
		return
	}
	const event = "session does not come up, or ended"
	if ok, left := b.pace.admit(peer.String()+" "+event, event, time.Now()); ok { // a session may come and go all the time
		b.out.Warn(event, "peer", peer, "local", local, "why", why, "left_out_before", left)
	}
}
