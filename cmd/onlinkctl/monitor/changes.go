package monitor

import (
	"fmt"
	"regexp"
	"strings"

	onlinkv1 "onlink/proto/v1"
)

// established is the state of a session that is up.
const established = "Established"

// namedEvents bounds the sessions, and the problems, of one answer that have an event of
// their own: a reflector may lose thousands at once.
const namedEvents = 40

// statusChanges returns what differs between two statuses of one agent.
func statusChanges(was, is *onlinkv1.Status) []event {
	var out []event
	say := func(t Tone, format string, args ...any) {
		out = append(out, event{tone: t, text: fmt.Sprintf(format, args...)})
	}
	if restarted(was, is) {
		say(Warn, "the agent was started again, version %s", is.GetVersion())
	}
	if was.GetPhase() != is.GetPhase() {
		say(toneOfPhase(is.GetPhase()), "the agent is %s, was %s", is.GetPhase(), was.GetPhase())
	}
	if was.GetDrain() != is.GetDrain() {
		say(toneOfDrain(is.GetDrain()), "the node is %s, was %s", is.GetDrain(), was.GetDrain())
	}
	if was.GetConfigDigest() != is.GetConfigDigest() {
		say(Plain, "another configuration is in force, digest %s", is.GetConfigDigest())
	}
	out = append(out, problemChanges(was.GetProblems(), is.GetProblems())...)
	for _, c := range []struct {
		name    string
		was, is uint64
		tone    Tone
	}{
		{"routes desired", uint64(was.GetRoutesUnicast()), uint64(is.GetRoutesUnicast()), Plain},
		{"routes unresolved", uint64(was.GetRoutesUnresolved()), uint64(is.GetRoutesUnresolved()), Warn},
		{"routes failed", uint64(was.GetRoutesFailed()), uint64(is.GetRoutesFailed()), Bad},
		{"routes repaired", was.GetFibDrift(), is.GetFibDrift(), Warn},
		{"blocks", uint64(was.GetBlocks()), uint64(is.GetBlocks()), Plain},
		{"addresses in use", uint64(was.GetAddressesUsed()), uint64(is.GetAddressesUsed()), Plain},
		{"announcements", uint64(was.GetAnnouncements()), uint64(is.GetAnnouncements()), Plain},
		{"announcements withheld", uint64(was.GetAnnouncementsWithheld()), uint64(is.GetAnnouncementsWithheld()), Warn},
		{"announcements rejected", uint64(was.GetAnnouncementsRejected()), uint64(is.GetAnnouncementsRejected()), Warn},
	} {
		if c.was != c.is {
			out = append(out, event{count: c.name, from: c.was, to: c.is, tone: c.tone})
		}
	}
	return out
}

// restarted reports whether two statuses are of two runs of the agent.
func restarted(was, is *onlinkv1.Status) bool {
	return !was.GetStarted().AsTime().Equal(is.GetStarted().AsTime())
}

func toneOfPhase(phase string) Tone {
	if phase == "ready" {
		return Good
	}
	return Warn
}

func toneOfDrain(drain string) Tone {
	if drain == "serving" {
		return Good
	}
	return Warn
}

// problemChanges returns the problems that appeared and ended. A problem whose numbers
// alone differ, such as its age, is the same one.
func problemChanges(was, is []string) []event {
	var out []event
	appeared, ended := without(is, was), without(was, is)
	for i, p := range appeared {
		if i == namedEvents {
			out = append(out, event{tone: Bad, text: fmt.Sprintf("%d more problems appeared", len(appeared)-i)})
			break
		}
		out = append(out, event{tone: Bad, text: "problem: " + p})
	}
	for i, p := range ended {
		if i == namedEvents {
			out = append(out, event{tone: Good, text: fmt.Sprintf("%d more problems ended", len(ended)-i)})
			break
		}
		out = append(out, event{tone: Good, text: "problem ended: " + p})
	}
	return out
}

// without returns the problems of list that others lacks.
func without(list, others []string) (out []string) {
	left := map[string]int{}
	for _, p := range others {
		left[shape(p)]++
	}
	for _, p := range list {
		if s := shape(p); left[s] > 0 {
			left[s]--
		} else {
			out = append(out, p)
		}
	}
	return out
}

// amount is a word that is a number or an age, such as 12, 2d3h or 95%.
var amount = regexp.MustCompile(`^\(?(\d+[a-zµ%]{0,2})+[),;:.]*$`)

// shape is a problem without its amounts.
func shape(problem string) string {
	words := strings.Fields(problem)
	for i, w := range words {
		if amount.MatchString(w) {
			words[i] = "#"
		}
	}
	return strings.Join(words, " ")
}

// roster is a list of sessions, as the agent sent it and by address.
type roster struct {
	list   []*onlinkv1.Peer
	byAddr map[string]*onlinkv1.Peer
}

func rosterOf(list []*onlinkv1.Peer) roster {
	r := roster{list, make(map[string]*onlinkv1.Peer, len(list))}
	for _, p := range list {
		r.byAddr[p.GetAddress()] = p
	}
	return r
}

// peerChanges returns what differs between two lists of sessions.
func peerChanges(was, is roster) []event {
	var out []event
	up, down, gone := 0, 0, 0 // beyond those with an event of their own
	for _, p := range is.list {
		e, ok := peerChange(was.byAddr[p.GetAddress()], p)
		switch {
		case !ok:
		case len(out) < namedEvents:
			out = append(out, e)
		case p.GetState() == established:
			up++
		default:
			down++
		}
	}
	for _, p := range was.list {
		switch {
		case is.byAddr[p.GetAddress()] != nil:
		case len(out) < namedEvents:
			out = append(out, event{tone: Plain, text: fmt.Sprintf("session %s is no longer listed", peerName(p))})
		default:
			gone++
		}
	}
	for _, rest := range []struct {
		n    int
		tone Tone
		what string
	}{
		{down, Bad, "more sessions changed and are down"},
		{up, Good, "more sessions changed and are up"},
		{gone, Plain, "more sessions are no longer listed"},
	} {
		if rest.n > 0 {
			out = append(out, event{tone: rest.tone, text: fmt.Sprintf("%d %s", rest.n, rest.what)})
		}
	}
	return out
}

// peerChange returns what happened to one session. One that went down and came up again
// between two answers shows by its count of flaps alone.
func peerChange(was, is *onlinkv1.Peer) (event, bool) {
	name, up := peerName(is), is.GetState() == established
	switch {
	case was == nil && up:
		return event{tone: Good, text: fmt.Sprintf("session %s is new, and up", name)}, true
	case was == nil:
		return event{tone: Warn, text: because(fmt.Sprintf("session %s is new, in state %s", name, is.GetState()), reason(is))}, true
	case was.GetState() == established && !up:
		return event{tone: Bad, text: because(fmt.Sprintf("session %s went down", name), reason(is))}, true
	case was.GetState() != established && up:
		return event{tone: Good, text: fmt.Sprintf("session %s came up", name)}, true
	case up && is.GetFlaps() > was.GetFlaps():
		return event{tone: Bad, text: because(fmt.Sprintf("session %s went down and came up again", name), is.GetLastError())}, true
	}
	return event{}, false
}

// reason is why a session is down.
func reason(p *onlinkv1.Peer) string {
	switch {
	case p.GetHeld() != "":
		return "held down: " + p.GetHeld()
	case p.GetLastError() != "":
		return p.GetLastError()
	}
	return p.GetTrouble()
}

func because(text, why string) string {
	if why == "" {
		return text
	}
	return text + ": " + why
}

// peerName is a peer's name with its address. Dynamic peers have the name of their range
// in common: of those it is the address, with a "*" as in onlinkctl peers.
func peerName(p *onlinkv1.Peer) string {
	switch {
	case p.GetDynamic():
		return p.GetAddress() + "*"
	case p.GetName() == "":
		return p.GetAddress()
	}
	return fmt.Sprintf("%s (%s)", p.GetName(), p.GetAddress())
}
