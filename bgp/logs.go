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

// logBridge is the engine's logger. It hands the engine's warnings and errors
// on to ours as they are, and takes the engine's events (SessionEvent), which
// say why sessions fail. It stays on level Info, because on Debug the engine
// makes a record of every path.
type logBridge struct {
	out    *slog.Logger
	ledger *ledger
	self   self
	pace   logPace
}

// Panic implements [log.Logger]. It does not: the engine calls it for what a
// peer sent, and no peer may end the agent.
func (b *logBridge) Panic(msg string, f log.Fields) { b.write(slog.LevelError, recordOf(msg, f)) }

// Fatal implements [log.Logger], without ending the process.
func (b *logBridge) Fatal(msg string, f log.Fields) { b.write(slog.LevelError, recordOf(msg, f)) }

// Error implements [log.Logger].
func (b *logBridge) Error(msg string, f log.Fields) { b.write(slog.LevelError, recordOf(msg, f)) }

// Warn implements [log.Logger].
func (b *logBridge) Warn(msg string, f log.Fields) { b.write(slog.LevelWarn, recordOf(msg, f)) }

// Info implements [log.Logger]: what operators need of it comes as an event.
func (b *logBridge) Info(string, log.Fields) {}

// Debug implements [log.Logger].
func (b *logBridge) Debug(string, log.Fields) {}

// SetLevel implements [log.Logger]; the level is fixed.
func (b *logBridge) SetLevel(log.LogLevel) {}

// GetLevel implements [log.Logger].
func (b *logBridge) GetLevel() log.LogLevel { return log.InfoLevel }

// entry is what our log has of a record or an event of the engine.
type entry struct {
	event string // the same text for all of a kind
	peer  string // its address, or what the record names instead; may be empty
	err   string // may be from a peer
	stack string // of a panic
	// prefix and source are of a route that is withheld.
	prefix netip.Prefix
	source netip.Addr
}

// recordOf takes the engine's record with the fields that are worth keeping.
func recordOf(msg string, f log.Fields) entry {
	e := entry{event: msg, peer: text(f["Key"])}
	for _, key := range []string{"Error", "Err", "error"} {
		if e.err == "" {
			e.err = text(f[key])
		}
	}
	if err, ok := f["Data"].(error); ok && e.err == "" {
		e.err = err.Error()
	}
	return e
}

// write hands an entry on, unless there were too many like it.
func (b *logBridge) write(level slog.Level, e entry) {
	cause := e.peer
	if e.source.IsValid() {
		cause = e.source.String() // one who announces what fits for nobody must not make a line for everybody
	}
	ok, left := b.pace.admit(cause+" "+e.event, e.event, time.Now())
	if !ok {
		return
	}
	attrs := []slog.Attr{slog.String("event", e.event), slog.String("peer", e.peer), slog.String("error", printable(e.err))}
	if e.stack != "" {
		attrs = append(attrs, slog.String("stack", e.stack))
	}
	if e.prefix.IsValid() {
		attrs = append(attrs, slog.String("prefix", e.prefix.String()), slog.String("announced_by", addrText(e.source)))
	}
	if left > 0 {
		attrs = append(attrs, slog.Int("left_out_before", left))
	}
	b.out.LogAttrs(context.Background(), level, "bgp engine", attrs...)
}

// text writes a field; "" for an absent one.
func text(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// notification is what a NOTIFICATION says.
type notification struct {
	code, subcode int
	reason        string // the operator's text (RFC 9003)
	fault         string // what was wrong with the message that it answers
}

// notificationOf reads the data of a NOTIFICATION: the one inside a hard reset
// (RFC 8538 section 3.1) in place of that, and the operator's text of a
// shutdown or reset (RFC 9003), which begins with its length.
func notificationOf(code, subcode uint8, data []byte) notification {
	if code == bgp.BGP_ERROR_CEASE && subcode == bgp.BGP_ERROR_SUB_HARD_RESET && len(data) >= 2 {
		code, subcode, data = data[0], data[1], data[2:]
	}
	n := notification{code: int(code), subcode: int(subcode)}
	says := code == bgp.BGP_ERROR_CEASE &&
		(subcode == bgp.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN || subcode == bgp.BGP_ERROR_SUB_ADMINISTRATIVE_RESET)
	if says && len(data) > 1 {
		n.reason = string(data[1:min(1+int(data[0]), len(data))])
	}
	return n
}

// words says a NOTIFICATION, with the operator's text or what was wrong.
func (n notification) words() string {
	text := notificationText(n.code, n.subcode)
	if n.reason != "" {
		text += ": " + n.reason
	} else if n.fault != "" {
		text += ": " + n.fault
	}
	return text
}

// sentNotification and receivedNotification begin the texts of a NOTIFICATION.
const (
	sentNotification     = "sent NOTIFICATION "
	receivedNotification = "received NOTIFICATION "
)
