package gobgp

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// Reporter receives the engine's reports about itself and its sessions. The
// engine's goroutines call it, several at once: it must not block and must not
// call the engine.
type Reporter interface {
	// Record receives a record of the engine's log: a warning, an error or, where
	// Wants reports true of it, of the level Debug.
	Record(level slog.Level, r Record)
	// Wants reports whether records of a level are kept. The engine asks for each
	// route.
	Wants(level slog.Level) bool
	// Event receives an event of a connection or a message. An unpatched engine
	// reports none.
	Event(e Event)
}

// Record is the part of a record of the engine's log that onlink keeps.
type Record struct {
	Text string // the same for all of a kind
	Peer string // its address, or another name from the record; may be empty
	Err  string // may be from a peer
	// Fields are the other values of a record of the level Debug, as key=value.
	Fields string
}

// Event is an event of a connection or a message. Its kinds and the fields of
// each are in bgp/engine/overlay/pkg/server/sessionevents.go.
type Event struct {
	Kind      string
	Peer      netip.Addr
	Local     netip.Addr // our address, to which the peer connected
	State     string     // of the session before the event
	Reason    string
	Code      uint8 // of the NOTIFICATION received or sent, if any
	Subcode   uint8
	Data      []byte
	Err       error // of the connection or the message
	Stack     string
	AS        uint32 // of the OPEN that a refused peer sent
	ID        netip.Addr
	SessionID netip.Addr // of the speaker at the session's other end
	Prefix    netip.Prefix
	NextHop   netip.Addr
	Source    netip.Addr // that announced Prefix
	// Received and Accepted count the routes that an Established session had at its
	// end; Prefixes are the lowest of the accepted ones.
	Received, Accepted int
	Prefixes           []netip.Prefix
}

// sessionEvent is the engine's form of an Event: an alias, because the engine
// names the type by its fields.
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

	Received, Accepted int
	Prefixes           []netip.Prefix
}

// logger is the engine's logger. On Debug the engine makes a record of every path.
type logger struct{ to Reporter }

// SessionEvent receives an event of a patched engine.
func (l *logger) SessionEvent(e sessionEvent) {
	l.to.Event(Event{
		Kind: e.Kind, Peer: e.Peer, Local: e.Local, State: machineState(e.State), Reason: e.Reason,
		Code: e.Code, Subcode: e.Subcode, Data: e.Data, Err: e.Err, Stack: e.Stack,
		AS: e.AS, ID: e.ID, SessionID: e.SessionID, Prefix: e.Prefix, NextHop: e.NextHop, Source: e.Source,
		Received: e.Received, Accepted: e.Accepted, Prefixes: e.Prefixes,
	})
}

// Panic implements [log.Logger] without a panic: the engine calls it because of
// messages of peers, and no peer may end the agent.
func (l *logger) Panic(msg string, f log.Fields) { l.to.Record(slog.LevelError, recordOf(msg, f)) }

// Fatal implements [log.Logger], without ending the process.
func (l *logger) Fatal(msg string, f log.Fields) { l.to.Record(slog.LevelError, recordOf(msg, f)) }

// Error implements [log.Logger].
func (l *logger) Error(msg string, f log.Fields) { l.to.Record(slog.LevelError, recordOf(msg, f)) }

// Warn implements [log.Logger].
func (l *logger) Warn(msg string, f log.Fields) { l.to.Record(slog.LevelWarn, recordOf(msg, f)) }

// Info implements [log.Logger]. Events report the same, so the record is one of Debug.
func (l *logger) Info(msg string, f log.Fields) { l.Debug(msg, f) }

// Debug implements [log.Logger].
func (l *logger) Debug(msg string, f log.Fields) {
	if !l.to.Wants(slog.LevelDebug) {
		return
	}
	r := recordOf(msg, f)
	r.Fields = fieldsText(f)
	l.to.Record(slog.LevelDebug, r)
}

// SetLevel implements [log.Logger]; the level is the reporter's.
func (l *logger) SetLevel(log.LogLevel) {}

// GetLevel implements [log.Logger].
func (l *logger) GetLevel() log.LogLevel {
	if l.to.Wants(slog.LevelDebug) {
		return log.DebugLevel
	}
	return log.InfoLevel
}

// recordOf translates a record of the engine's log.
func recordOf(msg string, f log.Fields) Record {
	r := Record{Text: msg, Peer: text(f["Key"])}
	for _, key := range []string{"Error", "Err", "error"} {
		if r.Err == "" {
			r.Err = text(f[key])
		}
	}
	if err, ok := f["Data"].(error); ok && r.Err == "" {
		r.Err = err.Error()
	}
	return r
}

// fieldsText returns the fields that a Record has no place of its own for.
func fieldsText(f log.Fields) string {
	var words []string
	for _, key := range slices.Sorted(maps.Keys(f)) {
		if key != "Key" && key != "Topic" {
			words = append(words, key+"="+text(f[key]))
		}
	}
	return strings.Join(words, " ")
}

// text returns a field as text; "" for an absent one.
func text(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}
