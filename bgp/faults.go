package bgp

import (
	"strings"
	"unicode"
)

// Faults counts what was wrong with messages, by what became of them: with those
// of a peer (RFC 7606 section 2), and with those for it.
type Faults struct {
	// Reset: messages that ended the session.
	Reset uint64
	// Withdrawn: UPDATEs whose routes were taken as withdrawn.
	Withdrawn uint64
	// Discarded: UPDATEs that were used without some of their attributes.
	Discarded uint64
	// Ignored: UPDATEs of which nothing was for the session.
	Ignored uint64
	// Panics: faults of the engine while it dealt with a message, or with a
	// question about the peer. They end the peer's session and nothing else.
	Panics uint64
	// Withheld: routes that the peer is not told because no message to it can
	// hold them, each time that one became so.
	Withheld uint64
}

// Total returns the sum of all.
func (f Faults) Total() uint64 {
	return f.Reset + f.Withdrawn + f.Discarded + f.Ignored + f.Panics + f.Withheld
}

// faultOf says which count an event of the engine belongs to, and its name in
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

// maxErrorText bounds what is kept of a text that a peer may have written.
const maxErrorText = 512

// printable makes text of what may come from a peer: one line of UTF-8 that
// moves no cursor and fits into every format (RFC 9003 section 2 promises
// UTF-8, which nobody enforces).
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
