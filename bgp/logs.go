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
	ledger *ledger
	self   self
	pace   logPace
}

// Record implements [gobgp.Reporter].
func (b *logBridge) Record(level slog.Level, r gobgp.Record) {
	b.write(level, entry{event: r.Text, peer: r.Peer, err: r.Err})
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
func (b *logBridge) write(level slog.Level, e entry) {
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
	b.out.LogAttrs(context.Background(), level, "bgp engine", attrs...)
}
