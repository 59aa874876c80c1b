package monitor

import (
	"fmt"
	"time"
)

// head is who and how the agent is.
func (m *Model) head(width int, now time.Time) Frame {
	b := &m.board
	s := b.status
	clock := now.Format(time.TimeOnly)
	if s == nil {
		return append(Frame{{Text: ends("onlinkctl monitor", clock, width), Tone: Title}}, m.connection(width, now)...)
	}
	reflector := ""
	if s.GetReflector() {
		reflector = ", route reflector"
	}
	running := ""
	if s.GetStarted().IsValid() {
		running = ", running " + b.text.Age(now.Sub(s.GetStarted().AsTime()))
	}
	who := fmt.Sprintf("%s (%s), AS %d%s%s, onlink %s", s.GetNode(), s.GetAddress(), s.GetAsn(), reflector, running, s.GetVersion())
	// Failed routes are desired ones that the kernel lacks.
	installed := max(int64(s.GetRoutesUnicast())-int64(s.GetRoutesFailed()), 0)
	out := append(Frame{{Text: ends(who, clock, width), Tone: Title}}, m.connection(width, now)...)
	return append(out,
		m.state(width),
		Line{Text: cut(fmt.Sprintf("Routes  %d/%d installed, %.1f/s; unresolved %d, failed %d, repaired %d, tunnelled %d",
			installed, s.GetRoutesUnicast(), b.routes.rate(now), s.GetRoutesUnresolved(), s.GetRoutesFailed(), s.GetFibDrift(), s.GetRoutesTunnelled()), width)},
		Line{Text: cut(fmt.Sprintf("IPAM    %d/%d addresses in %s; announcements %d, withheld %d, rejected %d",
			s.GetAddressesUsed(), s.GetAddressesTotal(), times(int(s.GetBlocks()), "block"), s.GetAnnouncements(), s.GetAnnouncementsWithheld(), s.GetAnnouncementsRejected()), width)},
	)
}

// state is the agent's state in one line.
func (m *Model) state(width int) Line {
	s := m.board.status
	sync := "in sync"
	if !s.GetInSync() {
		sync = "not in sync"
	}
	text := fmt.Sprintf("State   %s, %s, %s; sessions %d/%d", s.GetPhase(), sync, s.GetDrain(), s.GetPeersEstablished(), s.GetPeersTotal())
	if n := s.GetPeersGone(); n > 0 {
		text += fmt.Sprintf(", gone %d", n)
	}
	text += fmt.Sprintf("; problems %d", len(s.GetProblems()))
	if n := len(s.GetHeld()); n > 0 {
		text += fmt.Sprintf("; held %d", n)
	}
	tone := Good
	switch {
	case m.board.failed != nil:
		tone = Dim // it was so
	case len(s.GetProblems()) > 0:
		tone = Bad
	case !s.GetInSync() || s.GetDrain() != "serving":
		tone = Warn
	}
	return Line{Text: cut(text, width), Tone: tone}
}

// connection is whether the data is that of now, and why it is not.
func (m *Model) connection(width int, now time.Time) Frame {
	b := &m.board
	old := ""
	if !b.latest.IsZero() {
		old = ", data " + b.text.Age(now.Sub(b.latest)) + " old"
	}
	switch {
	case b.failed != nil:
		next := "connecting now"
		if wait := b.again.Sub(now); wait > 0 {
			next = "next attempt in " + b.text.Age(wait+time.Second)
		}
		return Frame{
			{Text: cut(fmt.Sprintf("Agent   no answer for %s%s, %s", b.text.Age(now.Sub(b.since)), old, next), width), Tone: Bad},
			{Text: cut("        "+b.failed.Error(), width), Tone: Bad},
		}
	case m.paused:
		return Frame{{Text: "Agent   paused" + old + "; p continues", Tone: Warn}}
	case b.latest.IsZero():
		return Frame{{Text: "Agent   waiting for its first answer", Tone: Warn}}
	}
	return Frame{{Text: "Agent   live" + old, Tone: Good}}
}
