package bgp

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"onlink/bgp/gobgp"
)

// Event implements [gobgp.Reporter].
func (b *logBridge) Event(e gobgp.Event) {
	switch e.Kind {
	case "ended":
		b.ended(e)
	case "refused":
		b.refused(e)
	case "own-originator":
		b.ledger.ownOriginator(e, b.self)
	case "routes-left":
		b.ledger.left(e.Peer, Loss{e.Received, e.Accepted, e.Prefixes})
	default:
		if count, event := faultOf(e.Kind); count != nil {
			b.fault(e, count, event)
			return
		}
		b.failed(e)
	}
}

// failed receives the cause of a session's failure, which the engine reports
// before the end of the connection.
func (b *logBridge) failed(e gobgp.Event) {
	f := failure{ends: e.State == established}
	switch e.Kind {
	case "connect-failed":
		f = failure{text: "connect: " + errorText(e.Err), silent: isTimeout(e.Err)}
		if closedByPeer(e.Err) {
			f.text = closedBeforeOpen // so fast that connect(2) saw it
		}
		b.ledger.fails(e.Peer, f)
		b.report(e.Peer, netip.Addr{})
		return
	case "notification-sent":
		n := notificationOf(e.Code, e.Subcode, e.Data)
		n.fault = errorText(e.Err)
		b.ledger.sent(e.Peer, n, f)
		return
	case "notification-received":
		f.text = receivedNotification + notificationOf(e.Code, e.Subcode, e.Data).words()
	case "connected-anew":
		f.text = "the peer connected anew, so its connection before was dead (RFC 4724 section 5)"
	case "send-hold-expired":
		f.text = "send hold timer expired: the peer reads nothing (RFC 9687)"
	case "send-failed":
		b.write(b.out, slog.LevelWarn, entry{event: "failed to send", peer: addrText(e.Peer), err: errorText(e.Err)})
		return
	case "md5-refused":
		f.text, f.ends = "the kernel refused the TCP MD5 key: "+errorText(e.Err), false
	default:
		b.write(b.out, slog.LevelWarn, entry{event: "unknown event: " + e.Kind, peer: addrText(e.Peer), err: errorText(e.Err)})
		return
	}
	b.ledger.fails(e.Peer, f)
}

// ended receives the end of a connection.
func (b *logBridge) ended(e gobgp.Event) {
	switch {
	case e.State == established:
		b.ledger.ended(e.Peer, lostText(e), e.Reason == "graceful-restart")
		return // its line is that of the change of state
	case e.Reason == "hold-timer-expired" && e.State != gobgp.OpenConfirm:
		b.ledger.fails(e.Peer, failure{text: b.self.endText(e), silent: true})
	default:
		if text := b.self.endText(e); text != "" {
			b.ledger.failed(e.Peer, text)
		}
	}
	if e.State != established && e.Reason == "notification-received" &&
		e.Code == cease && e.Subcode == collision {
		b.ledger.collided(e.Peer)
	}
	b.report(e.Peer, e.Local)
}

// fault counts and logs the fault of a message.
func (b *logBridge) fault(e gobgp.Event, count func(*Faults) *uint64, event string) {
	b.ledger.fault(e.Peer, count, errorText(e.Err))
	level := slog.LevelWarn
	if e.Stack != "" {
		level = slog.LevelError
	}
	b.write(b.out, level, entry{event: event, peer: addrText(e.Peer), err: errorText(e.Err), stack: e.Stack, prefix: e.Prefix, source: e.Source})
}

// refused receives a connection that the engine refused.
func (b *logBridge) refused(e gobgp.Event) {
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
	default: // the hold or the prefix limit is in its status
		return
	}
	b.report(e.Peer, e.Local)
}

// report logs the newest reason of a peer, unless it did so lately.
func (b *logBridge) report(peer, local netip.Addr) {
	why := b.ledger.newReason(peer)
	if why == "" {
		return
	}
	const event = "session does not come up, or ended"
	if ok, left := b.pace.admit(peer.String()+" "+event, event, time.Now()); ok { // a session may flap all the time
		b.out.Warn(event, "peer", peer, "local", local, "why", why, "left_out_before", left)
	}
}
