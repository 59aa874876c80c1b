package bgp

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// sessionEvent is what a patched engine reports about connections and messages:
// an alias, because the engine names the type by its fields. Its kinds and the
// fields of each are in bgp/engine/overlay/pkg/server/sessionevents.go.
type sessionEvent = struct {
	Kind          string
	Peer          netip.Addr
	Local         netip.Addr
	State         bgp.FSMState
	Reason        string
	Code, Subcode uint8
	Data          []byte
	Err           error
	Stack         string
	AS            uint32
	ID            netip.Addr
	SessionID     netip.Addr
	Prefix        netip.Prefix
	NextHop       netip.Addr
	Source        netip.Addr
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
	default:
		if count, event := faultOf(e.Kind); count != nil {
			b.fault(e, count, event)
			return
		}
		b.failed(e)
	}
}

// failed takes what makes a session fail, before the end of its connection is
// reported.
func (b *logBridge) failed(e sessionEvent) {
	f := failure{ends: e.State == bgp.BGP_FSM_ESTABLISHED}
	switch e.Kind {
	case "connect-failed":
		f = failure{text: "connect: " + text(e.Err), silent: isTimeout(e.Err)}
		if closedByPeer(e.Err) {
			f.text = closedBeforeOpen // so fast that connect(2) saw it
		}
		b.ledger.fails(e.Peer, f)
		b.report(e.Peer, netip.Addr{})
		return
	case "notification-sent":
		n := notificationOf(e.Code, e.Subcode, e.Data)
		n.fault = text(e.Err)
		b.ledger.sent(e.Peer, n, f)
		return
	case "notification-received":
		f.text = receivedNotification + notificationOf(e.Code, e.Subcode, e.Data).words()
	case "connected-anew":
		f.text = "the peer connected anew, so its connection before was dead (RFC 4724 section 5)"
	case "send-hold-expired":
		f.text = "send hold timer expired: the peer reads nothing (RFC 9687)"
	case "send-failed":
		b.write(slog.LevelWarn, entry{event: "failed to send", peer: addrText(e.Peer), err: text(e.Err)})
		return
	case "md5-refused":
		f.text, f.ends = "the kernel refused the TCP MD5 key: "+text(e.Err), false
	default:
		b.write(slog.LevelWarn, entry{event: "unknown event: " + e.Kind, peer: addrText(e.Peer), err: text(e.Err)})
		return
	}
	b.ledger.fails(e.Peer, f)
}

// ended takes the end of a connection in one of the states that have one.
func (b *logBridge) ended(e sessionEvent) {
	switch {
	case e.State == bgp.BGP_FSM_ESTABLISHED:
		b.ledger.ended(e.Peer, lostText(e))
	case e.Reason == "hold-timer-expired" && e.State != bgp.BGP_FSM_OPENCONFIRM:
		b.ledger.fails(e.Peer, failure{text: b.self.endText(e), silent: true})
	default:
		if text := b.self.endText(e); text != "" {
			b.ledger.failed(e.Peer, text)
		}
	}
	if e.State != bgp.BGP_FSM_ESTABLISHED && e.Reason == "notification-received" &&
		e.Code == bgp.BGP_ERROR_CEASE && e.Subcode == bgp.BGP_ERROR_SUB_CONNECTION_COLLISION_RESOLUTION {
		b.ledger.collided(e.Peer)
	}
	b.report(e.Peer, e.Local)
}

// lostText says why an established session ended of which no event said more.
func lostText(e sessionEvent) string {
	switch e.Reason {
	case "graceful-restart", "read-failed":
		return "the peer closed the connection without a NOTIFICATION"
	case "write-failed":
		return "writing to the peer did not succeed"
	case "hold-timer-expired":
		return "hold timer expired: nothing heard from the peer"
	case "notification-sent":
		return sentNotification + notificationOf(e.Code, e.Subcode, e.Data).words()
	case "notification-received", "hard-reset":
		return receivedNotification + notificationOf(e.Code, e.Subcode, e.Data).words()
	}
	return strings.ReplaceAll(e.Reason, "-", " ")
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
		silent := "the peer took the connection and sends no OPEN"
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
	n := notificationOf(e.Code, e.Subcode, e.Data)
	text := receivedNotification + n.words()
	if hint := s.hint(n.code, n.subcode); hint != "" {
		text += ": " + hint
	}
	return text
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

// isTimeout reports whether nothing answered.
func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
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
	case "address":
		b.ledger.failed(e.Peer, "the peer connected to another address of ours than LocalAddress")
	default: // its hold or its limit says it
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
