package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// logBridge is the engine's logger. It hands warnings and errors on to ours,
// and picks out of the rest why sessions fail, which the engine's events do
// not say. It stays on level Info, because on Debug the engine makes a record
// of every path.
type logBridge struct {
	out    *slog.Logger
	ledger *ledger
	self   self
	pace   logPace
}

// Panic implements [log.Logger]. It does not: the engine calls it for what a
// peer sent, and no peer may end the agent.
func (b *logBridge) Panic(msg string, f log.Fields) { b.record(slog.LevelError, msg, f) }

// Fatal implements [log.Logger], without ending the process.
func (b *logBridge) Fatal(msg string, f log.Fields) { b.record(slog.LevelError, msg, f) }

// Error implements [log.Logger].
func (b *logBridge) Error(msg string, f log.Fields) { b.record(slog.LevelError, msg, f) }

// Warn implements [log.Logger].
func (b *logBridge) Warn(msg string, f log.Fields) { b.record(slog.LevelWarn, msg, f) }

// Info implements [log.Logger].
func (b *logBridge) Info(msg string, f log.Fields) { b.record(slog.LevelInfo, msg, f) }

// Debug implements [log.Logger]. A patched engine sends failed dials here
// whatever the level is.
func (b *logBridge) Debug(msg string, f log.Fields) {
	if msg == "failed to connect" {
		d := detailsOf(f)
		failure := connectFailed + d.err
		if err, ok := f["Error"].(error); ok && closedByPeer(err) {
			failure = closedBeforeOpen // so fast that connect(2) saw it
		}
		b.note(f, failure)
		if addr, err := netip.ParseAddr(d.key); err == nil {
			b.report(addr.Unmap(), netip.Addr{})
		}
	}
}

// SetLevel implements [log.Logger]; the level is fixed.
func (b *logBridge) SetLevel(log.LogLevel) {}

// GetLevel implements [log.Logger].
func (b *logBridge) GetLevel() log.LogLevel { return log.InfoLevel }

// record takes a record of the engine.
func (b *logBridge) record(level slog.Level, msg string, f log.Fields) {
	d := detailsOf(f)
	switch msg {
	case "Peer Down":
		b.lost(f)
	case "received notification":
		b.note(f, "received NOTIFICATION "+d.words())
	case "sent notification":
		b.note(f, sentNotification+d.words())
	case "the peer connected anew":
		b.note(f, "the peer connected anew, so its connection before was dead (RFC 4724 section 5)")
	case "send hold timer expired":
		b.note(f, "send hold timer expired: the peer reads nothing (RFC 9687)")
	case "failed to set md5":
		b.note(f, "the kernel refused the TCP MD5 key: "+d.err)
	case "Mismatched local address":
		b.note(f, "the peer connected to another address of ours than LocalAddress")
	case "Closed an accepted connection", "failed to close existing tcp connection":
		return // no fault: the engine has a connection to this peer, or closes what is closed
	case "No matching path for withdraw found, may be path was not installed into table":
		return // a peer may withdraw what it never announced, or what policy refused
	case "Can't find configuration for a new passive connection":
		if Patched() {
			return // an event says more
		}
		if ok, left := b.pace.admit(msg, msg, time.Now()); ok { // whoever it is: anybody can connect
			b.out.Info("refused session of unknown peer", "peer", d.key, "left_out_before", left)
		}
		return
	}
	b.count(msg, d)
	if level >= slog.LevelWarn && (!reported[msg] || !Patched()) {
		b.write(level, msg, d, f)
	}
}

// reported are the records of an end that an event of a patched engine tells
// again: they come at every attempt, and it is logged once.
var reported = map[string]bool{
	"received notification": true, "sent notification": true, "hold timer expired": true, "send hold timer expired": true,
	"Mismatched local address": true,
}

// count counts what a record says was wrong with a peer's message.
func (b *logBridge) count(msg string, d details) {
	addr, _ := netip.ParseAddr(d.key) // none for what is no peer's fault
	kind, known := faultOf[msg]
	if !known {
		return
	}
	b.ledger.fault(addr.Unmap(), kind, d.err)
}

// write hands a record on, unless there were too many like it.
func (b *logBridge) write(level slog.Level, msg string, d details, f log.Fields) {
	cause := d.key
	source := text(f["Source"])
	if source != "" {
		cause = source // one who announces what fits for nobody must not make a line for everybody
	}
	ok, left := b.pace.admit(cause+" "+msg, msg, time.Now())
	if !ok {
		return
	}
	attrs := []slog.Attr{slog.String("event", msg), slog.String("peer", d.key), slog.String("error", printable(d.err))}
	if stack := text(f["Stack"]); stack != "" {
		attrs = append(attrs, slog.String("stack", stack))
	}
	if prefix := text(f["Prefix"]); prefix != "" {
		attrs = append(attrs, slog.String("prefix", prefix), slog.String("announced_by", source))
	}
	if left > 0 {
		attrs = append(attrs, slog.Int("left_out_before", left))
	}
	b.out.LogAttrs(context.Background(), level, "bgp engine", attrs...)
}

// note gives the ledger the error text of a record about a peer.
func (b *logBridge) note(f log.Fields, text string) {
	if addr, err := netip.ParseAddr(detailsOf(f).key); err == nil {
		b.ledger.failed(addr.Unmap(), text)
	}
}

// lost gives the ledger the reason of a session's end.
func (b *logBridge) lost(f log.Fields) {
	if addr, err := netip.ParseAddr(detailsOf(f).key); err == nil {
		b.ledger.lost(addr.Unmap(), text(f["Reason"]))
	}
}

// details are the fields of a record that are worth keeping.
type details struct {
	key, err, reason string
	code, subcode    int
}

func detailsOf(f log.Fields) details {
	d := details{key: text(f["Key"]), err: text(f["Error"]), reason: text(f["Communicated-Reason"])}
	for _, key := range []string{"Err", "error"} {
		if d.err == "" {
			d.err = text(f[key])
		}
	}
	if code, ok := f["Code"].(uint8); ok {
		d.code = int(code)
	}
	if sub, ok := f["Subcode"].(uint8); ok {
		d.subcode = int(sub)
	}
	switch data := f["Data"].(type) {
	case *bgp.MessageError: // what the receiver itself found wrong comes in one piece
		d.code, d.subcode = int(data.TypeCode), int(data.SubTypeCode)
		if d.err == "" {
			d.err = data.Message
		}
	case error:
		if d.err == "" {
			d.err = data.Error()
		}
	case []byte:
		d.unwrap(data)
	}
	return d
}

// unwrap takes the NOTIFICATION out of a hard reset (RFC 8538 section 3.1),
// and out of that the operator's text (RFC 9003), which begins with its length.
func (d *details) unwrap(data []byte) {
	if d.code != bgp.BGP_ERROR_CEASE || d.subcode != bgp.BGP_ERROR_SUB_HARD_RESET || len(data) < 2 {
		return
	}
	d.code, d.subcode = int(data[0]), int(data[1])
	says := d.code == bgp.BGP_ERROR_CEASE &&
		(d.subcode == bgp.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN || d.subcode == bgp.BGP_ERROR_SUB_ADMINISTRATIVE_RESET)
	if says && len(data) > 3 && d.reason == "" {
		d.reason = string(data[3:min(3+int(data[2]), len(data))])
	}
}

// text writes a field; "" for an absent one.
func text(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// sentNotification begins the text of a session's end that we caused.
const sentNotification = "sent NOTIFICATION "

// words says the NOTIFICATION of a record, with the operator's text if the
// peer sent one (RFC 9003).
func (d details) words() string {
	text := notificationText(d.code, d.subcode)
	if d.reason != "" {
		text += ": " + d.reason
	} else if d.err != "" {
		text += ": " + d.err
	}
	return text
}
