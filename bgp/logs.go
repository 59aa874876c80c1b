package bgp

import (
	"context"
	"log/slog"
	"net/netip"
)

// logBridge is the engine's logger. It hands warnings and errors on to ours,
// and picks out of the rest why sessions fail, which the engine's events do
// not say. It also sees debug records, but forwards none: the engine formats
// whole paths there.
type logBridge struct {
	out    *slog.Logger
	ledger *ledger
	feed   *feed
	key    string // the peer, when the engine's logger is a peer's
}

// Enabled implements [slog.Handler].
func (b *logBridge) Enabled(_ context.Context, _ slog.Level) bool { return true }

// WithGroup implements [slog.Handler]; the engine uses no groups.
func (b *logBridge) WithGroup(string) slog.Handler { return b }

// WithAttrs implements [slog.Handler]: it remembers the peer.
func (b *logBridge) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *b
	for _, a := range attrs {
		if a.Key == "Key" {
			c.key = a.Value.String()
		}
	}
	return &c
}

// details are the attributes of a record that are worth keeping.
type details struct {
	key, err, reason string
	code, subcode    int
}

// Handle implements [slog.Handler].
func (b *logBridge) Handle(ctx context.Context, r slog.Record) error {
	switch r.Message {
	case "Peer Down":
		// Logged by the goroutine that next marks the peer's paths stale, a
		// flag the watcher goroutine reads without a lock. Passing through the
		// feed's lock orders that write after the reads of all events folded.
		b.feed.pass()
	case "failed to connect":
		b.note(r, func(d details) string { return "connect: " + d.err })
	case "received notification":
		b.note(r, func(d details) string { return "received NOTIFICATION " + d.words() })
	case "sent notification":
		b.note(r, func(d details) string { return "sent NOTIFICATION " + d.words() })
	case "failed to set md5":
		b.note(r, func(d details) string { return "the kernel refused the TCP MD5 key: " + d.err })
	case "Mismatched local address":
		b.note(r, func(details) string { return "the peer connected to another address of ours than LocalAddress" })
	case "Closed an accepted connection":
		return nil // the engine's 5 s in Idle after every loss: the peer dials again
	case "Can't find configuration for a new passive connection":
		b.out.Log(ctx, slog.LevelInfo, "refused session of unknown peer", "peer", b.details(r).key)
		return nil
	}
	if r.Level < slog.LevelWarn {
		return nil
	}
	d := b.details(r)
	b.out.Log(ctx, r.Level, "bgp engine", "event", r.Message, "peer", d.key, "error", d.err)
	return nil
}

// note gives the ledger the error text of a record about a peer.
func (b *logBridge) note(r slog.Record, text func(details) string) {
	d := b.details(r)
	if addr, err := netip.ParseAddr(d.key); err == nil {
		b.ledger.failed(addr.Unmap(), text(d))
	}
}

func (b *logBridge) details(r slog.Record) details {
	d := details{key: b.key}
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "Key":
			d.key = a.Value.String()
		case "Error", "Err":
			d.err = a.Value.String()
		case "Communicated-Reason":
			d.reason = a.Value.String()
		case "Code":
			d.code = int(a.Value.Int64())
		case "Subcode":
			d.subcode = int(a.Value.Int64())
		}
		return true
	})
	return d
}

// words says the NOTIFICATION of a record, with the operator's text if the
// peer sent one (RFC 9003).
func (d details) words() string {
	text := notificationText(d.code, d.subcode)
	if d.reason != "" {
		text += ": " + d.reason
	}
	return text
}
