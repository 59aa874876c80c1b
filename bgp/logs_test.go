package bgp

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"onlink/bgp/gobgp"
)

// TestEngineLevel: the records of the engine have a part of their own, whose level
// decides about them; warnings are paced, and what was asked for at debug is not.
func TestEngineLevel(t *testing.T) {
	var out bytes.Buffer
	b := newLogBridge(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), nil, self{})
	if !b.Wants(slog.LevelDebug) {
		t.Error("a logger of the level debug wants no record of debug")
	}
	for range 3 * logBurst {
		b.Record(slog.LevelDebug, gobgp.Record{Text: "create Destination", Fields: "Nlri=10.0.0.0/8\nx"})
		b.Record(slog.LevelWarn, gobgp.Record{Text: "odd", Peer: "10.57.0.1"})
	}
	text := out.String()
	if n := strings.Count(text, `part=engine event="create Destination" peer="" fields="Nlri=10.0.0.0/8 x"`); n != 3*logBurst {
		t.Errorf("%d records of debug, want %d:\n%s", n, 3*logBurst, text)
	}
	if n := strings.Count(text, "part=engine event=odd peer=10.57.0.1"); n != logBurst {
		t.Errorf("%d warnings, want %d", n, logBurst)
	}
	quiet := newLogBridge(slog.New(slog.NewTextHandler(&out, nil)), nil, self{})
	if quiet.Wants(slog.LevelDebug) || !quiet.own.Enabled(context.Background(), slog.LevelInfo) {
		t.Error("a logger of the level info wants records of debug")
	}
}

// TestNotificationInAHardReset: the text of a hard reset is that of the
// NOTIFICATION inside, however much of it has arrived.
func TestNotificationInAHardReset(t *testing.T) {
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"a shutdown with its reason", []byte("\x06\x02\x05drain"), "6/2 cease, administrative shutdown: drain"},
		{"a reason shorter than it says", []byte("\x06\x02\xffdrain"), "6/2 cease, administrative shutdown: drain"},
		{"no reason", []byte{6, 3}, "6/3 cease, peer de-configured"},
		{"nothing inside", nil, "6/9 cease, hard reset"},
		{"half a NOTIFICATION", []byte{6}, "6/9 cease, hard reset"},
		{"data of another fault are no text", []byte("\x03\x01\x05drain"), "3/1 UPDATE message error, malformed attribute list"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := notificationOf(6, 9, tt.data).words()
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
