package gobgp

import (
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/osrg/gobgp/v3/pkg/log"
)

// reader keeps the records that it is given.
type reader struct {
	wants bool
	got   map[slog.Level][]Record
}

func (r *reader) Wants(slog.Level) bool { return r.wants }
func (r *reader) Event(Event)           {}
func (r *reader) Record(level slog.Level, one Record) {
	r.got[level] = append(r.got[level], one)
}

// TestLogger: the engine's level is that of its reader at every call, and its records
// of Info and Debug are made only for one who wants them.
func TestLogger(t *testing.T) {
	to := &reader{got: map[slog.Level][]Record{}}
	l := &logger{to}
	fields := log.Fields{"Topic": "Peer", "Key": "10.57.0.1", "State": 3, "Code": uint8(6)}
	all := func() {
		l.Debug("d", fields)
		l.Info("i", fields)
		l.Warn("w", fields)
		l.Error("e", fields)
	}
	if all(); l.GetLevel() != log.InfoLevel {
		t.Errorf("quiet: level %v", l.GetLevel())
	}
	to.wants = true
	if all(); l.GetLevel() != log.DebugLevel {
		t.Errorf("asked for: level %v", l.GetLevel())
	}
	plain := func(msg string) Record { return Record{Text: msg, Peer: "10.57.0.1"} }
	full := func(msg string) Record { return Record{Text: msg, Peer: "10.57.0.1", Fields: "Code=6 State=3"} }
	want := map[slog.Level][]Record{
		slog.LevelDebug: {full("d"), full("i")},
		slog.LevelWarn:  {plain("w"), plain("w")},
		slog.LevelError: {plain("e"), plain("e")},
	}
	if diff := cmp.Diff(want, to.got); diff != "" {
		t.Error(diff)
	}
}
