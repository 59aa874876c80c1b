package state

import (
	"fmt"
	"slices"
	"time"

	"onlink/agent/drain"
	"onlink/bgp"
)

// The areas of problems.
const (
	areaAgent        = "agent" // what parts of the agent report themselves
	areaDrain        = "drain"
	areaHeld         = "held" // changes that wait for a confirmation
	areaCertificates = "certificates"
	areaSessions     = "sessions"
	areaStations     = "stations" // monitoring stations
	areaAddresses    = "addresses"
	areaContested    = "contested" // blocks that several nodes announce
	areaRoutes       = "routes"
)

// Areas returns the areas of problems.
func Areas() []string {
	return []string{areaAgent, areaDrain, areaHeld, areaCertificates, areaSessions, areaStations, areaAddresses, areaContested, areaRoutes}
}

// Problems returns the problems for the operator, one line each with the remedy.
func (s *Snapshot) Problems() []string {
	var out []string
	for _, lines := range s.problems() {
		out = append(out, lines...)
	}
	slices.Sort(out)
	return append(out, s.Routes.Problems...)
}

// ProblemsByArea returns the same lines by what they concern; every area is there.
func (s *Snapshot) ProblemsByArea() map[string][]string {
	out := s.problems()
	out[areaRoutes] = append(out[areaRoutes], s.Routes.Problems...)
	return out
}

// problems returns the problems by area, without those that the learn flow reports.
func (s *Snapshot) problems() map[string][]string {
	out := map[string][]string{
		areaAgent: slices.Clone(s.Found), areaDrain: nil, areaHeld: nil, areaCertificates: nil,
		areaSessions: s.Sessions.problems(s.Taken), areaStations: nil, areaAddresses: s.IPAM.problems(), areaContested: s.Contested(), areaRoutes: nil,
	}
	if s.Drain != drain.Serving {
		out[areaDrain] = []string{fmt.Sprintf("the node is %s%s: other nodes do not use its prefixes until onlinkctl undrain", s.Drain, s.DrainOf)}
	}
	for _, h := range s.Held {
		out[areaHeld] = append(out[areaHeld], h.Problem())
	}
	for i := range s.Certificates {
		if text := s.Certificates[i].Problem(s.Taken); text != "" {
			out[areaCertificates] = append(out[areaCertificates], text)
		}
	}
	for i := range s.Stations {
		if text := s.Stations[i].Problem(s.Taken); text != "" {
			out[areaStations] = append(out[areaStations], text)
		}
	}
	for prefix, why := range s.Routes.Failed {
		out[areaRoutes] = append(out[areaRoutes], fmt.Sprintf("route %s: %s", prefix, why))
	}
	return out
}

// gonePeersShown bounds the problems of peers that are not configured: whoever
// has the addresses can make as many as there are.
const gonePeersShown = 8

// goneProblem is how long a peer that was up and is gone is a problem: after that it is
// in the list of peers alone, because a node that was taken away for good is no fault.
const goneProblem = 10 * time.Minute

// problems returns the faults of each session at the moment now.
func (s *Sessions) problems(now time.Time) []string {
	out := slices.Clone(s.Found)
	gone := 0
	for i := range s.Peers {
		p := &s.Peers[i]
		if w := p.Withheld; w.Routes > 0 {
			out = append(out, fmt.Sprintf("peer %s (%s): %d routes are withheld because no message to it can hold them, such as %s: %s", p.Name, p.Address, w.Routes, w.Prefix, w.Why))
		}
		text := p.Problem()
		if text == "" || p.Gone && p.Seen && now.Sub(p.Since) > goneProblem {
			continue
		}
		if p.Gone {
			if gone++; gone > gonePeersShown {
				continue
			}
		}
		out = append(out, text)
	}
	if more := gone - gonePeersShown; more > 0 {
		out = append(out, fmt.Sprintf("%d more rejected or lost peers that are not configured, see onlinkctl peers", more))
	}
	return out
}

// Problem returns the peer's problem for the operator; "" when all is well.
func (p *Peer) Problem() string {
	name := fmt.Sprintf("peer %s (%s)", p.Name, p.Address)
	switch {
	case p.Stranger && !p.Speaks: // a probe of the port
		return ""
	case p.Stranger:
		return fmt.Sprintf("connections from %s are %s", p.Address, p.LastError)
	case p.Held != "":
		return name + " is held down: " + p.Held
	case p.Trouble != "":
		return name + ": " + p.Trouble
	case p.Gone && p.Seen && p.LastError != "":
		return fmt.Sprintf("%s is gone%s: %s", name, lossText(&p.Lost), p.LastError)
	case !p.Up() && p.LastError != "":
		return fmt.Sprintf("%s is %s: %s", name, p.State, p.LastError)
	}
	return ""
}

// lossText names the routes that went with a session; "" for none.
func lossText(l *bgp.Loss) string {
	switch {
	case len(l.Prefixes) == 0:
		return ""
	case l.Accepted == 1:
		return fmt.Sprintf(", with its route %s", l.Prefixes[0])
	}
	return fmt.Sprintf(", with its %d routes such as %s", l.Accepted, l.Prefixes[0])
}
