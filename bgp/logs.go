package bgp

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"onlink/bgp/gobgp"
)

// logBridge receives the engine's reports: it logs warnings and errors, and records
// in the ledger the reasons of failed sessions from the events.
type logBridge struct {
	out    *slog.Logger
	own    *slog.Logger // of the engine's own records: a part with a level of its own
	ledger *ledger
	self   self
	pace   logPace
}

func newLogBridge(log *slog.Logger, l *ledger, me self) *logBridge {
	return &logBridge{out: log, own: log.With("part", "engine"), ledger: l, self: me}
}

// Wants implements [gobgp.Reporter].
func (b *logBridge) Wants(level slog.Level) bool { return b.own.Enabled(context.Background(), level) }

// Record implements [gobgp.Reporter]. Those of the level Debug are not paced: an
// operator asked for all of them.
func (b *logBridge) Record(level slog.Level, r gobgp.Record) {
	if level < slog.LevelInfo {
		b.own.Log(context.Background(), level, "bgp engine", "event", r.Text, "peer", r.Peer, "fields", printable(r.Fields))
		return
	}
	b.write(b.own, level, entry{event: r.Text, peer: r.Peer, err: r.Err})
}

// entry is the line of our log for a record or an event of the engine.
type entry struct {
	event string // the same text for all of a kind
	peer  string // its address, or another name from the record; may be empty
	err   string // may be from a peer
	stack string // of a panic
	// prefix and source are of a route that is withheld.
	prefix netip.Prefix
	source netip.Addr
}

// write logs an entry, unless there were too many like it.
func (b *logBridge) write(to *slog.Logger, level slog.Level, e entry) {
	cause := e.peer
	if e.source.IsValid() {
		cause = e.source.String() // else a route that fits into no message makes a line a peer
	}
	ok, left := b.pace.admit(cause+" "+e.event, e.event, time.Now())
	if !ok {
		return
	}
	attrs := []slog.Attr{slog.String("event", e.event), slog.String("peer", e.peer), slog.String("err", printable(e.err))}
	if e.stack != "" {
		attrs = append(attrs, slog.String("stack", e.stack))
	}
	if e.prefix.IsValid() {
		attrs = append(attrs, slog.String("prefix", e.prefix.String()), slog.String("announced_by", addrText(e.source)))
	}
	if left > 0 {
		attrs = append(attrs, slog.Int("left_out_before", left))
	}
	to.LogAttrs(context.Background(), level, "bgp engine", attrs...)
}
