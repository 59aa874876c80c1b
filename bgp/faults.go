package bgp

import (
	"strings"
	"unicode"
)

// Faults counts the faults of messages from a peer, by their treatment (RFC 7606
// section 2), and of messages to it.
type Faults struct {
	// Reset: messages that ended the session.
	Reset uint64
	// Withdrawn: UPDATEs whose routes were taken as withdrawn.
	Withdrawn uint64
	// Discarded: UPDATEs whose faulty attributes were discarded.
	Discarded uint64
	// Ignored: UPDATEs with no route of a family that the session carries.
	Ignored uint64
	// Panics: panics of the engine while it handled a message, or a request
	// about the peer. They end the peer's session and nothing else.
	Panics uint64
	// Withheld: routes that are not announced to the peer because they do not
	// fit into a message, each time that this begins.
	Withheld uint64
}

// Total returns the sum of all.
func (f Faults) Total() uint64 {
	return f.Reset + f.Withdrawn + f.Discarded + f.Ignored + f.Panics + f.Withheld
}

// faultOf returns the counter for an event of the engine, and the event's name in
// our log; nil for an event of another kind.
func faultOf(kind string) (count func(*Faults) *uint64, event string) {
	switch kind {
	case "malformed":
		return (*Faults).reset, "malformed message: the session is reset"
	case "treated-as-withdraw":
		return (*Faults).withdrawn, "malformed UPDATE: its routes are treated as withdrawn"
	case "attributes-discarded":
		return (*Faults).discarded, "malformed UPDATE: some attributes are discarded"
	case "ignored":
		return (*Faults).ignored, "UPDATE ignored: nothing of it is for this session"
	case "panic":
		return (*Faults).panics, "contained a panic"
	case "withheld":
		return (*Faults).withheld, "route withheld: no message to the peer can hold it"
	}
	return nil, ""
}

func (f *Faults) reset() *uint64     { return &f.Reset }
func (f *Faults) withdrawn() *uint64 { return &f.Withdrawn }
func (f *Faults) discarded() *uint64 { return &f.Discarded }
func (f *Faults) ignored() *uint64   { return &f.Ignored }
func (f *Faults) panics() *uint64    { return &f.Panics }
func (f *Faults) withheld() *uint64  { return &f.Withheld }

// maxErrorText bounds a text that may come from a peer, in bytes.
const maxErrorText = 512

// printable turns a text that may come from a peer into one line of UTF-8 without
// control characters: it cannot move an operator's cursor or break a format. (RFC
// 9003 section 2 requires UTF-8, but a peer can send other bytes.)
func printable(s string) string {
	if len(s) > maxErrorText {
		s = s[:maxErrorText] + " ..."
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		if unicode.IsSpace(r) {
			return ' '
		}
		return unicode.ReplacementChar
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
}
